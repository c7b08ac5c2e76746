"""Between host and device: what goes there leaves page-locked memory, so that nobody waits; what comes back does so in
one copy, which one waits for when it is needed."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_NAMES = ("uint8", "int32", "int64", "float16", "float32", "float64")
_TORCH = {np.dtype(name): getattr(torch, name) for name in _NAMES}
_NUMPY = {kind: dtype for dtype, kind in _TORCH.items()}


def to_device(values: NDArray[np.generic], device: torch.device) -> Tensor:
    """A copy of an array on `device`; nobody waits for it to arrive on a GPU."""
    if device.type != "cuda":
        # A copy, since PyTorch takes neither read-only arrays nor negative strides.
        return torch.from_numpy(np.array(values, order="C")).to(device)
    staged = torch.empty(values.shape, dtype=_TORCH[values.dtype], pin_memory=True)
    np.copyto(staged.numpy(), values)
    return staged.to(device, non_blocking=True)  # what was staged is used again once it has arrived


def to_host(values: Sequence[Tensor]) -> Callable[[], list[NDArray[np.generic]]]:
    """Send tensors of one device to the host in a single copy; calling the answer waits for it and gives arrays."""
    packed = torch.cat([one.contiguous().flatten().view(torch.uint8) for one in values])
    shapes = [(one.shape, _NUMPY[one.dtype]) for one in values]
    if packed.device.type != "cuda":
        return lambda: _unpacked(packed.cpu().numpy(), shapes)
    landing = torch.empty(packed.shape, dtype=torch.uint8, pin_memory=True)
    landing.copy_(packed, non_blocking=True)
    arrived = torch.cuda.current_stream(packed.device).record_event()

    def wait() -> list[NDArray[np.generic]]:
        arrived.synchronize()
        return _unpacked(landing.numpy(), shapes)

    return wait


def _unpacked(
    packed: NDArray[np.uint8], shapes: Sequence[tuple[torch.Size, np.dtype[np.generic]]]
) -> list[NDArray[np.generic]]:
    """Arrays of their own, so that none keeps page-locked memory, nor begins in the middle of a number."""
    sizes = [dtype.itemsize * shape.numel() for shape, dtype in shapes]
    parts = np.split(packed, np.cumsum(sizes)[:-1])
    return [np.array(part).view(dtype).reshape(shape) for part, (shape, dtype) in zip(parts, shapes, strict=True)]
