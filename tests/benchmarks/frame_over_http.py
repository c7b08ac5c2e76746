"""The part of `tests.benchmarks.frame` that goes through a service: seconds a frame with requests always in flight."""

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ray
import torch
import yaml

from tests.tiny import tiny_recipe
from tis_ray import Client
from tis_ray.config import Ensemble, load_ensemble
from tis_ray.formats.images import decode_image
from tis_ray.instances import Categories
from tis_ray.models import checkpoint
from tis_ray.models.assembly import build_detector
from tis_ray.serving.local import free_port, serve_locally, start_ray

IN_FLIGHT = 4


def measure(
    detector: dict[str, Any], categories: Categories, jpeg: bytes, scales: range, *, requests: int, compiled: bool
) -> None:
    """Print a line for each way of spreading the views over deployments."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        recipe = tiny_recipe(detector=detector)
        torch.manual_seed(0)
        network = build_detector(recipe.detector, categories)
        checkpoint.save(folder / "r50", detector=network, recipe=recipe, categories=categories, metrics={})
        height, width = decode_image(jpeg, max_pixels=None).shape[:2]
        inference = {"image_sizes": [f"{width}x{height}"]}
        if compiled:
            inference |= {"compile": True, "compile_cache": str(folder / "kernels")}
        for name, groups in {"all views in one deployment": {"all": list(scales)}, "one for each scale": {}}.items():
            start = time.perf_counter()
            path = _ensemble(folder, list(scales), groups, inference)
            seconds, alone_s = _served(load_ensemble(path), jpeg, requests)
            print(
                f"{name}: {seconds:.3f} s a frame with {IN_FLIGHT} in flight, {alone_s:.3f} s for one alone; "
                f"{time.perf_counter() - start:.0f} s with starting and stopping",
                flush=True,
            )


def _ensemble(folder: Path, scales: list[int], groups: dict[str, list[int]], inference: dict[str, Any]) -> Path:
    content = {
        "members": {"r50": {"checkpoint": "r50", "scales": scales, "groups": groups}},
        "fusion": {"rules": [{"nms": {"iou_threshold": 0.5}}], "top_k": 100},
        "inference": inference,
        "auth": "none",
    }
    path = folder / "ensemble.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def _served(ensemble: Ensemble, jpeg: bytes, requests: int) -> tuple[float, float]:
    """Seconds a frame when several are always in flight, and of one alone after that."""
    try:
        start_ray(ensemble)
        with serve_locally(ensemble, port=free_port()) as service:
            client = Client(service.url, timeout_s=600)
            client.segment(jpeg)
            with ThreadPoolExecutor(IN_FLIGHT) as senders:
                start = time.perf_counter()
                list(senders.map(client.segment, [jpeg] * requests))
                seconds = (time.perf_counter() - start) / requests
            start = time.perf_counter()
            client.segment(jpeg)
            return seconds, time.perf_counter() - start
    finally:
        ray.shutdown()
