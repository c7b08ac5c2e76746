"""The counter of waits sees what a GPU would be waited for, and nothing else."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.ops import nms

from tests.host_waits import host_waits

WAITS = [
    pytest.param("aten::_local_scalar_dense", lambda x: x.sum().item(), id="item"),
    pytest.param("aten::_local_scalar_dense", lambda x: 1 if x.any() else 0, id="if"),
    pytest.param("aten::nonzero", lambda x: torch.where(x > 2)[0], id="where of one argument"),
    pytest.param("aten::index", lambda x: x[x > 2], id="mask as index"),
    pytest.param("aten::index_put_", lambda x: x.clone().index_put_((x > 2,), x[:3]), id="values at a mask"),
    pytest.param("aten::masked_select", lambda x: x.masked_select(x > 2), id="masked_select"),
    pytest.param("aten::_unique2", lambda x: x.unique(), id="unique"),
    pytest.param("aten::equal", lambda x: torch.equal(x, x), id="equal"),
    pytest.param("aten::repeat_interleave", lambda x: x.repeat_interleave(x.long()), id="repeat_interleave"),
    pytest.param("aten::lift_fresh", lambda x: torch.tensor([1.0, 2.0]), id="numbers"),
    pytest.param("aten::lift_fresh", lambda x: x.new_tensor([1.0, 2.0]), id="more numbers"),
    pytest.param("aten::lift_fresh", lambda x: x[[0, 1]], id="list as index"),
    pytest.param("tolist", lambda x: x.tolist(), id="tolist"),
    pytest.param("cpu", lambda x: x.cpu(), id="cpu"),
    pytest.param("numpy", lambda x: x.numpy(), id="numpy"),
    pytest.param("torchvision::nms", lambda x: nms(x[:4][None], x[:1], 0.5), id="nms"),
]
FREE = [
    pytest.param(lambda x: torch.where(x > 2, x, 0), id="where of three arguments"),
    pytest.param(lambda x: x[x.argsort()][:3], id="numbers as index"),
    pytest.param(lambda x: x.clone().masked_fill_(x > 2, 0.0), id="a number at a mask"),
    pytest.param(lambda x: x.repeat_interleave(x.long(), output_size=15), id="repeat_interleave of known length"),
    pytest.param(lambda x: x.topk(2).values.sort(), id="topk and sort"),
    pytest.param(lambda x: torch.full((3,), 2.0) + x[0] + torch.arange(3), id="numbers made on the device"),
]


@pytest.fixture
def numbers() -> Tensor:
    return torch.arange(6.0)


@pytest.mark.parametrize(("name", "call"), WAITS)
def test_counts_what_is_waited_for(numbers: Tensor, name: str, call: Callable[[Tensor], object]) -> None:
    with host_waits() as found:
        call(numbers)
    assert found == {name: 1}


@pytest.mark.parametrize("call", FREE)
def test_leaves_out_what_is_not(numbers: Tensor, call: Callable[[Tensor], object]) -> None:
    with host_waits() as found:
        call(numbers)
    assert not found
