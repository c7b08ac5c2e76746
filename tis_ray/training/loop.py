"""The training loop: plain PyTorch over one process's batches, knowing nothing of Ray, files or progress bars.

Chance inside a step (proposal sampling, dropout) is seeded by (seed, step, rank), and by the number of a batch among
those of one step, so a run that is resumed at a step goes on as if it had never stopped and needs no random state of
its own.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tis_ray.data.loading import Batch
from tis_ray.errors import TisRayError
from tis_ray.training.optim import set_lr
from tis_ray.training.to_device import ToDevice


class DivergenceError(TisRayError):
    """The loss or the weights are no longer finite."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did. `step` counts finished steps of the whole run; times are seconds.

    `losses` are this worker's terms by name, each the mean of `batches` as they count, `loss` is their sum; `images`
    are those of all these batches. `data_wait_s` is the part of `seconds` in which no batch was ready.
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
    accumulate: int = 1,
    clip_grad_norm: float | None = None,
    after_step: Callable[[], None] | None = None,
) -> Iterator[Step]:
    """Train on every batch once, `accumulate` of them at a time, yielding after each step.

    `first_step` is the number of steps the run has made before; `learning_rate` maps a step, from 0, to its rate.
    `after_step` is called when the weights are new. Raises `DivergenceError`, before the weights are touched, where a
    loss is not finite.
    """
    model.train()
    to_device = ToDevice(device)
    started = time.perf_counter()
    for step, group in enumerate(_groups(batches, accumulate), start=first_step):
        ready = time.perf_counter()
        set_lr(optimizer, learning_rate(step))
        losses = train_step(
            model,
            group,
            optimizer,
            to_device=to_device,
            clip_grad_norm=clip_grad_norm,
            reseed=partial(seed_step, seed, step, rank),
        )
        if after_step is not None:
            after_step()
        done = time.perf_counter()
        images = sum(len(batch.images) for batch in group)
        yield Step(step + 1, losses, learning_rate(step), images, done - started, ready - started, len(group))
        started = time.perf_counter()


def train_step(
    model: nn.Module,
    batches: Sequence[Batch],
    optimizer: Optimizer,
    *,
    to_device: ToDevice,
    clip_grad_norm: float | None = None,
    reseed: Callable[[int], None] | None = None,
) -> dict[str, float]:
    """One update by the mean of the batches' weighted losses, which are returned.

    bf16 autocast on a GPU, float32 on a CPU. `reseed` is called with the number of each batch before its turn.
    """
    optimizer.zero_grad(set_to_none=True)
    means: dict[str, float] = {}
    for number, batch in enumerate(batches):
        if reseed is not None:
            reseed(number)
        with nullcontext() if number + 1 == len(batches) else _unsynchronised(model):
            losses = _learn(model, batch, to_device, share=batch.loss_weight / len(batches))
        for name, loss in losses.items():
            means[name] = means.get(name, 0.0) + loss
    if clip_grad_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), clip_grad_norm)
    optimizer.step()
    return means


def _learn(model: nn.Module, batch: Batch, to_device: ToDevice, *, share: float) -> dict[str, float]:
    """Add the gradients of a batch, of whose losses `share` counts; returns these shares."""
    given, kind = to_device(batch), to_device.device.type
    with torch.autocast(kind, dtype=torch.bfloat16, enabled=kind == "cuda"):
        losses: dict[str, Tensor] = model(*given)
    values = _finite(losses, batch)
    total = torch.stack([loss.float() for loss in losses.values()]).sum()
    (total if share == 1 else total * share).backward()
    return {name: value * share for name, value in values.items()}


def _groups(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """So many batches at a time; the last group may be smaller."""
    left = iter(batches)
    while group := list(islice(left, size)):
        yield group


def _unsynchronised(model: nn.Module) -> AbstractContextManager[None]:
    """Workers add up their own gradients inside, and exchange them at the next backward pass outside."""
    several = isinstance(model, nn.parallel.DistributedDataParallel)
    return model.no_sync() if several else nullcontext()


def check_weights(model: nn.Module) -> None:
    """Raise `DivergenceError` where a parameter is not finite: such weights must not become a checkpoint."""
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise DivergenceError(f"{name} is no longer finite after a step; {_ADVICE}")


def seed_step(seed: int, step: int, rank: int, number: int = 0) -> None:
    """Seed PyTorch's global generators for one step of one worker, and for the `number`-th batch of it."""
    key = (seed, step, rank, number) if number else (seed, step, rank)
    torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]))


def scalars(step: Step) -> dict[str, Any]:
    """What TensorBoard shows of a step."""
    return {
        "loss/total": step.loss,
        **{f"loss/{name.removeprefix('loss_')}": value for name, value in step.losses.items()},
        "lr": step.lr,
        "speed/images_per_s": step.images / max(step.seconds, 1e-9),
        "speed/data_wait_s": step.data_wait_s,
        "speed/step_s": step.seconds,
    }


def _finite(losses: dict[str, Tensor], batch: Batch) -> dict[str, float]:
    stacked = torch.stack([loss.detach().float() for loss in losses.values()]).cpu()  # one wait for the device
    values = dict(zip(losses, stacked.tolist(), strict=True))
    broken = [f"{name}={value}" for name, value in values.items() if not math.isfinite(value)]
    if broken:
        ids = ", ".join(map(str, batch.image_ids)) + (" of data.external" if batch.external else "")
        raise DivergenceError(f"loss is not finite: {', '.join(broken)} on images {ids}; {_ADVICE}")
    return values


_ADVICE = "lower schedule.lr, lengthen schedule.warmup_iterations or set schedule.clip_grad_norm"
