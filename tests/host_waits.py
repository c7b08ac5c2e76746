"""What the program would wait for a GPU for, counted on the CPU.

Counted are operators whose answer, or its size, has to be known on the host, and numbers that are brought to the device
from there: PyTorch waits for their copy. Not seen are copies of whole tensors between devices, since there is but one.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

OPERATORS = {
    "aten::_local_scalar_dense",  # item(), bool(), int(), float(), if
    "aten::_unique2",
    "aten::allclose",
    "aten::bincount",
    "aten::equal",
    "aten::lift_fresh",  # torch.tensor(), as_tensor(), new_tensor() and lists as indices
    "aten::masked_select",
    "aten::nonzero",
    "aten::unique_consecutive",
    "aten::unique_dim",
    "torchvision::nms",
}
INDEXING = {"aten::index", "aten::index_put", "aten::index_put_"}
METHODS = {torch.Tensor.cpu, torch.Tensor.numpy, torch.Tensor.tolist}


@contextmanager
def host_waits() -> Iterator[Counter[str]]:
    """How often each operator was waited for inside the block; filled while it runs."""
    found: Counter[str] = Counter()
    with _Methods(found), _Operators(found):
        yield found


class _Operators(TorchDispatchMode):
    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = operator._schema.name
        if name in OPERATORS or (name in INDEXING and _by_mask(args[1])) or _unknown_length(operator, kwargs):
            self.found[name] += 1
        return operator(*args, **kwargs)


class _Methods(TorchFunctionMode):
    """What a CPU answers without an operator."""

    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function in METHODS:
            self.found[function.__name__] += 1
        return function(*args, **(kwargs or {}))


def _by_mask(indices: list[Tensor | None]) -> bool:
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)


def _unknown_length(operator: Any, kwargs: dict[str, Any]) -> bool:
    return operator is torch.ops.aten.repeat_interleave.Tensor and kwargs.get("output_size") is None
