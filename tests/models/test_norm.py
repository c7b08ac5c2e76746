"""Batch normalisation over all workers, and frozen: what they compute, in which precision, and what they keep."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d as torchvision_frozen

from tis_ray.models.norm import FrozenBatchNorm2d, SyncBatchNorm2d, norm_layer


def values() -> Tensor:
    return torch.randn(4, 6, 5, 7, generator=torch.Generator().manual_seed(0)) * 3 + 1


def one_step(layer: nn.Module, batch: Tensor) -> list[Tensor]:
    """The answer in training and all gradients, then the statistics and the answer in evaluation."""
    batch = batch.clone().requires_grad_()
    answer = layer.train()(batch)
    gradients = torch.autograd.grad(answer.pow(3).sum(), [batch, *layer.parameters()])
    return [answer, *gradients, *layer.state_dict().values(), layer.eval()(batch)]


def torch_answers(layer: SyncBatchNorm2d) -> SyncBatchNorm2d:
    """The layer as it is on a GPU: PyTorch's forward pass, here in one process."""
    layer.forward = lambda batch: nn.SyncBatchNorm.forward(layer, batch)
    return layer


@pytest.mark.parametrize("as_on_a_gpu", [False, True])
def test_in_one_process_it_is_batch_norm(as_on_a_gpu: bool) -> None:
    batch, sync = norm_layer("batch")(6), norm_layer("sync")(6)
    assert list(batch.state_dict()) == list(sync.state_dict())
    actual = one_step(torch_answers(sync) if as_on_a_gpu else sync, values())
    for one, other in zip(one_step(batch, values()), actual, strict=True):
        torch.testing.assert_close(other, one)


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_workers_on_cpus_are_not_refused(process_group: None) -> None:
    """PyTorch's layer is refused twice there, and before anything has looked at the number of workers."""
    layer = norm_layer("sync")(6)
    answer = nn.parallel.DistributedDataParallel(layer)(values())
    torch.testing.assert_close(answer, nn.BatchNorm2d(6)(values()))
    with pytest.raises(ValueError, match="SyncBatchNorm"):
        nn.parallel.DistributedDataParallel(nn.SyncBatchNorm(6))
    with pytest.raises(ValueError, match="SyncBatchNorm"):
        nn.SyncBatchNorm(6)(values())


def test_no_norm_unless_asked() -> None:
    assert norm_layer(None) is None


# ---------------------------------------------------------------------------------------------------- Frozen


@pytest.mark.parametrize("eps", [0.0, 1e-5])
@pytest.mark.parametrize("shape", [(2, 8, 5, 6), (0, 8, 5, 6), (1, 8, 1, 1)])
def test_frozen_norm_is_torchvisions(eps: float, shape: tuple[int, ...]) -> None:
    theirs, ours = torchvision_frozen(8, eps=eps), FrozenBatchNorm2d(8, eps=eps)
    generator = torch.Generator().manual_seed(0)
    for buffer in theirs.buffers():
        buffer.copy_(torch.rand(8, generator=generator) + 0.5)
    ours.load_state_dict(theirs.state_dict())
    values = torch.randn(shape, generator=generator)
    pair = [values.clone().requires_grad_() for _ in range(2)]
    expected, found = theirs(pair[0]), ours(pair[1])
    torch.testing.assert_close(found, expected)
    weight = torch.randn(shape, generator=generator)
    (expected * weight).sum().backward()
    (found * weight).sum().backward()
    torch.testing.assert_close(pair[1].grad, pair[0].grad)


def test_frozen_norm_keeps_the_precision_of_maps_and_nothing_of_their_size() -> None:
    layer = FrozenBatchNorm2d(8, eps=1e-5)
    layer.running_mean.fill_(100.0)
    values = (100 + torch.randn((1, 8, 16, 16), generator=torch.Generator().manual_seed(0))).bfloat16().requires_grad_()
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one.numel()) or one, lambda one: one):
        found = layer(values)
    assert found.dtype == torch.bfloat16
    assert max(kept) == 8
    # Rounded once: a mean subtracted in bfloat16 would leave steps of 0.5.
    torch.testing.assert_close(found.float(), layer(values.float()), atol=2**-7, rtol=2**-8)
