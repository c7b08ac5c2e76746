"""Compiled backbones and necks: a graph for each size of batch, made when it comes for the first time."""

import torch

from tis_ray.models.detector import Detector

MOST_SIZES = 256  # of a run's batches; PyTorch gives up compiling at 8


def compile_features(detector: Detector, *, backend: str = "inductor") -> None:
    """Compile backbone and neck of `detector` for training; changes it in place. Weights keep their names.

    Sizes are constants of a graph: kernels are faster for it, and few sizes (`Detector.size_bucket_px`) save minutes.
    Evaluation goes on as before. Call it last, copies of a compiled detector would run the original's weights.
    """
    torch._dynamo.config.recompile_limit = MOST_SIZES
    torch._dynamo.config.accumulated_recompile_limit = max(MOST_SIZES, torch._dynamo.config.accumulated_recompile_limit)
    detector.compiled = torch.compile(detector.features, dynamic=False, backend=backend)
