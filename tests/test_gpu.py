"""What only a GPU can show: training under bfloat16 autocast, resuming there, and the CPU's answers from the GPU."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.tiny import TINY_DETECTOR, save_tiny_checkpoint
from tis_ray.config import Recipe, parse
from tis_ray.data.scenes import write_scenes
from tis_ray.inference.predictor import Predictor
from tis_ray.models import checkpoint
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
