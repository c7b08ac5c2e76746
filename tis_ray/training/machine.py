"""Where a run is trained, in words for its report."""

import os
import platform

import torch

from tis_ray.training.job import Worker


def describe(worker: Worker) -> dict[str, str]:
    """Workers, device and versions, as seen by this worker."""
    if worker.device.type == "cuda":
        device = torch.cuda.get_device_name(worker.device)
    else:
        device = f"CPU, {torch.get_num_threads()} of {os.cpu_count()} cores"
    return {
        "workers": f"{worker.world_size}, the first on {platform.node()}",
        "device of each": device,
        "versions": f"PyTorch {torch.__version__}, Python {platform.python_version()}",
    }
