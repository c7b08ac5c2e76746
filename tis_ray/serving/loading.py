"""The model of a view server, which alone of the service's replicas imports PyTorch, and does so here."""

from pathlib import Path

from tis_ray.config import Inference
from tis_ray.instances import Categories
from tis_ray.serving.passes import Predicts


def load_predictor(
    checkpoint: Path,
    categories: Categories,
    *,
    device: str,
    feature_bytes: int,
    feature_age_s: float,
    gpu_share: float = 1.0,
    inference: Inference = Inference(),
) -> Predicts:
    """The member in a checkpoint directory on `device`, answering in `categories`' labels. Imports PyTorch.

    Features of images that a second pass is to come for take up to `feature_bytes` there, and for `feature_age_s`.
    With a `gpu_share` below 1 this process takes no more than that of the GPU's memory. It runs as `inference` says;
    compiled graphs are made by `warm_up`, which then raises `ConfigError` where the compiler does not work.
    """
    from tis_ray.inference.device_memory import keep_to_share
    from tis_ray.inference.feature_memory import FeatureMemory
    from tis_ray.inference.predictor import Predictor

    keep_to_share(device, gpu_share)
    memory = FeatureMemory(feature_bytes, feature_age_s)
    predictor = Predictor.from_checkpoint(
        checkpoint,
        device=device,
        categories=categories,
        memory=memory,
        precision=inference.precision,
        batch_px=inference.batch_px,
    )
    if inference.compile:
        predictor.compile(bucket_px=inference.size_bucket_px, cache=inference.compile_cache)
    return predictor


def memory_taken(device: str) -> int | None:
    """The most bytes of the GPU that this process has taken so far; None on a CPU. Imports PyTorch."""
    from tis_ray.inference.device_memory import peak_bytes

    return peak_bytes(device)
