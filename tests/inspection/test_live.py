"""Live bytes are counted to the byte: what an operation makes counts until nobody holds it."""

import pytest
import torch
from torch import Tensor

from tis_ray.inspection.live import LiveBytes


def test_counts_what_is_alive_and_keeps_the_most() -> None:
    with LiveBytes() as live:
        first = torch.zeros(1000)
        second = first + 1
        assert live.now == 8000
        del first
        assert live.now == 4000
        third = torch.zeros(100, dtype=torch.uint8)
        assert (live.now, live.peak) == (4100, 8000)
        del second, third
    assert (live.now, live.peak) == (0, 8000)


def test_views_and_changes_in_place_are_no_more_memory() -> None:
    with LiveBytes() as live:
        values = torch.zeros(10, 10)
        kept = values[2:].t().reshape(-1)[:3]  # the reshape copies, of which a view is left
        values.add_(1).relu_()
        row = values[0]
        del values
        assert live.now == 400 + 320
        del row
        assert live.now == 320
        del kept
    assert live.peak == 720


def test_what_was_there_before_does_not_count() -> None:
    weights = torch.zeros(100)
    with LiveBytes() as live:
        weights.view(10, 10)
        weights.mul_(2)
        assert live.peak == 0
        torch.detach(weights) + 1
    assert live.peak == 400


def test_what_a_backward_pass_needs_stays_until_it_has_run() -> None:
    weights = torch.ones(1000, requires_grad=True)
    with LiveBytes() as live:
        loss = (weights * 2).exp().sum()  # of these the backward pass needs the exponentials
        assert live.now == 4000 + 4
        loss.backward()
    assert live.peak == 4 + 4 + 4000 + 4000  # the loss and its gradient, the exponentials and theirs
    assert live.now == 4 + 4000
    assert weights.grad is not None


def test_an_operation_may_take_more_than_it_gives() -> None:
    def workspace(left: Tensor, right: Tensor) -> int:
        return 10 * len(left)

    with LiveBytes(workspaces={torch.ops.aten.mm: workspace}) as live:
        torch.zeros(5, 1) @ torch.zeros(1, 5)
    assert live.peak == 20 + 20 + 100 + 50
    assert live.now == 0


def test_says_where_the_peak_was() -> None:
    places = iter(["first", "second", "third"])
    with LiveBytes(where=lambda: next(places)) as live:
        torch.zeros(10)
        torch.zeros(20)
        torch.zeros(15)
    assert live.peak_at == "second"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
def test_bytes_follow_the_type(dtype: torch.dtype) -> None:
    with LiveBytes() as live:
        torch.empty(3, 7, dtype=dtype, device="meta")
    assert live.peak == 21 * dtype.itemsize
