"""What only a GPU can show: training under bfloat16 autocast, norm over workers, and the CPU's answers from the GPU."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn

from tests.tiny import TINY_DETECTOR, save_tiny_checkpoint
from tis_ray.config import Recipe, parse
from tis_ray.data.scenes import write_scenes
from tis_ray.inference.predictor import Predictor
from tis_ray.models import checkpoint
from tis_ray.models.deformable import DeformableConv2d
from tis_ray.models.norm import norm_layer
from tis_ray.ops.overlaps import pairwise_iou
from tis_ray.training.progress import RunProgress
from tis_ray.training.run import Worker, run
from tis_ray.views import View

pytestmark = pytest.mark.gpu

DEVICE = torch.device("cuda")


@pytest.fixture(autouse=True)
def _needs_a_device() -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")


@pytest.fixture
def conv_dtypes() -> Iterator[set[torch.dtype]]:
    """The dtypes in which convolutions answered during the test."""
    seen: set[torch.dtype] = set()

    def note(module: nn.Module, _: object, output: object) -> None:
        if isinstance(module, nn.Conv2d) and isinstance(output, torch.Tensor):
            seen.add(output.dtype)

    hook = nn.modules.module.register_module_forward_hook(note)
    yield seen
    hook.remove()


def recipe(folder: Path, *, epochs: int) -> Recipe:
    train = {"annotations": str(folder / "scenes" / "instances_train.json")}
    content = {
        "name": "tiny",
        "data": {"train": train, "scales": [64], "batch_size": 2},
        "detector": TINY_DETECTOR,
        "schedule": {"epochs": epochs, "lr": 0.001, "milestones": [], "clip_grad_norm": 5.0},
        "output": str(folder / "runs"),
    }
    return parse(Recipe, content, source="test")


def test_trains_in_bfloat16_and_resumes(tmp_path: Path, conv_dtypes: set[torch.dtype]) -> None:
    write_scenes(tmp_path / "scenes", num_images=4, size_wh=(96, 64), val_fraction=0.25, processes=1)
    steps: list[int] = []

    def tell(progress: RunProgress) -> None:
        assert progress.loss is None or np.isfinite(progress.loss)
        steps.append(progress.step)

    for epochs in (1, 2):
        run(recipe(tmp_path, epochs=epochs), worker=Worker(device=DEVICE), tell=tell)
        if epochs == 1:
            assert max(steps) == 2
            steps.clear()
    assert min(steps) >= 2  # the second run went on where the first ended
    assert max(steps) == 4
    assert torch.bfloat16 in conv_dtypes
    newest = recipe(tmp_path, epochs=2).run_dir / "checkpoint_000002"
    detector, _, _ = checkpoint.load(newest, "cpu")
    assert all(parameter.dtype == torch.float32 and parameter.isfinite().all() for parameter in detector.parameters())


def test_the_gpu_finds_what_the_cpu_finds(tmp_path: Path, picture: np.ndarray) -> None:
    """Rounded to bfloat16, so most rather than all: half of the boxes have a twin that overlaps by 0.8 or more."""
    everything = {"pre_nms_top_n_test": 5000, "post_nms_top_n_test": 5000, "nms_iou_test": 0.95}
    box = TINY_DETECTOR["box"] | {"max_instances": 5000, "nms_iou": 0.95}
    detector = TINY_DETECTOR | {"rpn": TINY_DETECTOR["rpn"] | everything, "box": box}
    folder = save_tiny_checkpoint(tmp_path / "checkpoint", detector=detector)
    (on_cpu,) = Predictor.from_checkpoint(folder, device="cpu").predict(picture, [View("m", 80)])
    (on_gpu,) = Predictor.from_checkpoint(folder, device=DEVICE).predict(picture, [View("m", 80)])
    assert len(on_gpu) == pytest.approx(len(on_cpu), rel=0.1)
    overlaps = pairwise_iou(on_cpu.boxes, on_gpu.boxes) * (on_cpu.labels[:, None] == on_gpu.labels[None])
    assert np.median(overlaps.max(axis=1)) > 0.8
    twins = overlaps.argmax(axis=1)
    assert np.median(np.abs(on_cpu.scores - on_gpu.scores[twins])) < 0.02


def step_of_norm(layer: nn.Module, batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The answer in training, the gradient of the batch and the running variance, on the CPU."""
    batch, layer = batch.clone().to(DEVICE).requires_grad_(), layer.to(DEVICE)
    answer = layer(batch)
    answer.pow(3).sum().backward()
    return answer.detach().cpu(), batch.grad.cpu(), layer.running_var.cpu()


def work_on_a_share(rank: int, batch: Tensor, folder: Path) -> None:
    """One of two workers, which have halves of a batch; its answers go to a file."""
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=2)
    torch.save(step_of_norm(norm_layer("sync")(6), batch[2 * rank : 2 * rank + 2]), folder / f"{rank}.pt")
    distributed.destroy_process_group()


def test_two_workers_normalise_by_the_batches_of_both(tmp_path: Path) -> None:
    batch = torch.randn(4, 6, 9, 12) * torch.arange(1, 5).view(4, 1, 1, 1)
    multiprocessing.spawn(work_on_a_share, (batch, tmp_path), nprocs=2)
    answers, gradients, variances = zip(*(torch.load(tmp_path / f"{rank}.pt") for rank in range(2)), strict=True)
    expected = step_of_norm(nn.BatchNorm2d(6), batch)
    for actual, wanted in zip((torch.cat(answers), torch.cat(gradients), variances[0]), expected, strict=True):
        torch.testing.assert_close(actual, wanted, atol=1e-3, rtol=1e-3)
    assert torch.equal(*variances)


def test_deformable_convolutions_compute_under_autocast_what_the_cpu_computes() -> None:
    layer = DeformableConv2d(8, 6, padding=1, stride=2, groups=2)
    nn.init.normal_(layer.offsets.weight, std=0.2)
    values = torch.randn(2, 8, 9, 3000).bfloat16()
    expected = layer(values.float())
    on_gpu = values.to(DEVICE, memory_format=torch.channels_last)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        answer = layer.to(DEVICE, memory_format=torch.channels_last)(on_gpu)
    assert answer.dtype == torch.bfloat16
    torch.testing.assert_close(answer.float().cpu(), expected, atol=0.02, rtol=0.02)
    answer.float().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())


@pytest.mark.parametrize("lost", [float("nan"), float("inf"), 1e30], ids=str)
def test_lost_offsets_leave_the_device_alone(lost: float) -> None:
    layer = DeformableConv2d(4, 6, padding=1).to(DEVICE)
    nn.init.constant_(layer.offsets.bias, lost)
    layer(torch.randn(2, 4, 9, 12, device=DEVICE)).sum().backward()
    assert torch.ones(1, device=DEVICE).item() == 1
