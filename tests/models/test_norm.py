"""Batch normalisation over all workers: what it is in one process, and that no worker on a CPU is refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tis_ray.models.norm import SyncBatchNorm2d, norm_layer


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
