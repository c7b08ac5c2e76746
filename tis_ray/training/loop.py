"""The training loop: plain PyTorch over one process's batches, knowing nothing of Ray, files or progress bars.

Chance inside a step (proposal sampling, dropout) is seeded by (seed, step, rank), so a run that is resumed at a
step goes on as if it had never stopped and needs no random state of its own.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tis_ray.data.loading import Batch
from tis_ray.errors import TisRayError
from tis_ray.models.targets import to_targets
from tis_ray.training.optim import set_lr


class DivergenceError(TisRayError):
    """The loss or the weights are no longer finite."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did. `step` counts finished steps of the whole run; times are seconds.

    `losses` are this worker's terms by name, `loss` is their sum, `data_wait_s` the part of `seconds` in which
    no batch was ready. It took `batches` of this worker's, with `images` in all.
    """

    step: int
    losses: dict[str, float]
    lr: float
    images: int
    seconds: float
    data_wait_s: float
    batches: int = 1

    @property
    def loss(self) -> float:
        """Sum of the losses."""
        return sum(self.losses.values())


def train_epoch(
    model: nn.Module,
    batches: Iterable[Batch],
    optimizer: Optimizer,
    learning_rate: Callable[[int], float],
    *,
    first_step: int,
    seed: int,
    rank: int = 0,
    device: torch.device,
    clip_grad_norm: float | None = None,
) -> Iterator[Step]:
    """Train on every batch once, yielding after each step.

    `first_step` is the number of steps the run has made before; `learning_rate` maps a step, from 0, to its rate.
    Raises `DivergenceError`, before the weights are touched, where a loss is not finite.
    """
    model.train()
    started = time.perf_counter()
    for step, batch in enumerate(batches, start=first_step):
        ready = time.perf_counter()
        seed_step(seed, step, rank)
        set_lr(optimizer, learning_rate(step))
        losses = train_step(model, batch, optimizer, device=device, clip_grad_norm=clip_grad_norm)
        done = time.perf_counter()
        yield Step(step + 1, losses, learning_rate(step), len(batch.images), done - started, ready - started)
        started = time.perf_counter()


def train_step(
    model: nn.Module,
    batch: Batch,
    optimizer: Optimizer,
    *,
    device: torch.device,
    clip_grad_norm: float | None = None,
) -> dict[str, float]:
    """One forward and backward pass and one update; returns the losses. bf16 autocast on a GPU, float32 on a CPU."""
    images = [image.to(device, non_blocking=True) for image in batch.images]
    targets = to_targets(batch.annotations, [(image.shape[-2], image.shape[-1]) for image in images], device)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
        losses: dict[str, Tensor] = model(images, targets)
    values = _finite(losses, batch.image_ids)
    optimizer.zero_grad(set_to_none=True)
    torch.stack([loss.float() for loss in losses.values()]).sum().backward()
    if clip_grad_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), clip_grad_norm)
    optimizer.step()
    return values


def check_weights(model: nn.Module) -> None:
    """Raise `DivergenceError` where a parameter is not finite: such weights must not become a checkpoint."""
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise DivergenceError(f"{name} is no longer finite after a step; {_ADVICE}")


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed PyTorch's global generators for one step of one worker."""
    torch.manual_seed(int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0]))


def scalars(step: Step) -> dict[str, Any]:
    """What TensorBoard shows of a step."""
    return {
        "loss/total": step.loss,
        **{f"loss/{name.removeprefix('loss_')}": value for name, value in step.losses.items()},
        "lr": step.lr,
        "speed/images_per_s": step.images / max(step.seconds, 1e-9),
        "speed/data_wait_s": step.data_wait_s,
    }


def _finite(losses: dict[str, Tensor], image_ids: list[int]) -> dict[str, float]:
    stacked = torch.stack([loss.detach().float() for loss in losses.values()]).cpu()  # one wait for the device
    values = dict(zip(losses, stacked.tolist(), strict=True))
    broken = [f"{name}={value}" for name, value in values.items() if not math.isfinite(value)]
    if broken:
        ids = ", ".join(map(str, image_ids))
        raise DivergenceError(f"loss is not finite: {', '.join(broken)} on images {ids}; {_ADVICE}")
    return values


_ADVICE = "lower schedule.lr, lengthen schedule.warmup_iterations or set schedule.clip_grad_norm"
