"""The ensemble that the tests' one running service serves: two tiny members, three deployments."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.tiny import save_tiny_checkpoint
from tis_ray.config import Ensemble

LIMITS = {
    "max_bytes": 3_000_000,
    "max_pixels": 2_000_000,
    "deadline_s": 30,
    "max_deadline_s": 60,
    "body_stall_s": 1.5,
    "max_queued_requests": 8,
}


@dataclass(frozen=True)
class Service:
    """A running service, the ensemble it runs, and where Ray's dashboard is."""

    url: str
    ensemble_path: Path
    ensemble: Ensemble
    dashboard: str


def write_ensemble(folder: Path) -> Path:
    for name, seed in (("one", 3), ("two", 5)):  # whose random weights find several classes, and masks with pixels
        save_tiny_checkpoint(folder / name, seed=seed)
    content = {
        "members": {
            "one": {"checkpoint": "one", "scales": [64, 96]},
            "two": {"checkpoint": "two", "scales": [64], "flip": False},
        },
        "fusion": {"rules": [{"nms": {"iou_threshold": 0.6}}, {"soft_nms": {}}], "top_k": 12},
        "limits": LIMITS,
        "auth": "none",
        "replicas": {name: {"num_cpus": 0.5, "num_gpus": 0} for name in ("default", "gateway", "fusion")},
    }
    path = folder / "ensemble.yaml"
    path.write_text(yaml.safe_dump(content))
    return path
