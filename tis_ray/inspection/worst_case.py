"""Computing with shapes alone: PyTorch's fake tensors, and an answer for every question about values."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tis_ray.inspection import formulas


class WorstCase(TorchDispatchMode):
    """What depends on values is as much as can be: NMS suppresses nothing, a condition holds everywhere.

    number: the answer to every other question about a value, as how many regions are positive
    """

    def __init__(self, *, number: int = 0) -> None:
        super().__init__()
        self.number = number

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """The operation's result, or what its shape would be at most."""
        if func.overloadpacket is formulas.NMS:
            return torch.arange(len(args[0]), device=args[0].device)
        if func is torch.ops.aten.nonzero.default:
            return args[0].new_zeros((args[0].numel(), args[0].ndim), dtype=torch.int64)
        if func is torch.ops.aten._local_scalar_dense.default:
            return self.number
        return func(*args, **(kwargs or {}))


@contextmanager
def precision(device: str, *, bfloat16: bool) -> Iterator[None]:
    """As `torch.autocast`, which turns itself off where there is no such device."""
    before = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    torch.set_autocast_enabled(device, bfloat16)
    torch.set_autocast_dtype(device, torch.bfloat16)
    try:
        yield
    finally:
        torch.clear_autocast_cache()  # the weights' copies
        torch.set_autocast_enabled(device, before[0])
        torch.set_autocast_dtype(device, before[1])
