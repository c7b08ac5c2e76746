"""One worker's whole run: from a recipe to its last checkpoint, resumed where the run folder has got to.

Nothing here knows Ray: the trainer hands in who the worker is and how checkpoints are reported to the other workers.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from tis_ray.config import Recipe
from tis_ray.training import job as jobs
from tis_ray.training import run_folder
from tis_ray.training.job import Job, Worker
from tis_ray.training.loop import Step, check_weights, scalars, train_epoch
from tis_ray.training.machine import describe
from tis_ray.training.position import Position
from tis_ray.training.progress import Meter, RunProgress
from tis_ray.training.saving import restore, save, storage

Report = Callable[[dict[str, Any], Path | None], None]
Tell = Callable[[RunProgress], None]
Write = Callable[[dict[str, Any], int], None]


def run(
    recipe: Recipe,
    *,
    worker: Worker = Worker(),
    begin: str | None = None,
    report: Report | None = None,
    tell: Tell | None = None,
) -> None:
    """Train `recipe` (with absolute paths) to its end.

    begin:  name of the checkpoint of the run's folder to go on from, the same on all workers, empty to begin anew;
            None goes on from the newest that there is
    report: called by every worker after each epoch, and as often as the schedule asks for checkpoints in between,
            with metrics and, on rank 0, the folder of the committed checkpoint; the others get None. It may wait for
            all workers.
    tell:   called on rank 0 after every step and change of state.
    Raises a `TisRayError` for a user's mistake; checkpoints written so far stay good.
    """
    with run_folder.locked(recipe.run_dir, starting=False) if worker.rank == 0 else nullcontext():
        job = assemble(recipe, worker, begin)
        _run(job, report or _ignore, tell if tell is not None and worker.rank == 0 else _ignore)


def assemble(recipe: Recipe, worker: Worker, begin: str | None = None) -> Job:
    """Read the data, build the parts and load the checkpoint where there is one; `begin` as for `run`."""
    name = run_folder.newest_name(recipe.run_dir) if begin is None else begin
    job = jobs.assemble(recipe, worker, goes_on=bool(name))
    if name:
        restore(job, recipe.run_dir / name)
    if worker.world_size > 1:
        job.model = nn.parallel.DistributedDataParallel(job.detector)
    return job


def _run(job: Job, report: Report, tell: Tell) -> None:
    meter = Meter(_start(job))
    tell(meter.change(state="training"))
    with _tensorboard(job) as (write, flush):
        write(describe(job.worker), job.step)
        while not job.finished:
            with closing(_steps(job)) as steps:  # the run may end before the epoch does
                for step in steps:
                    before = job.position
                    job.count(step)
                    seen = step.images * job.worker.world_size
                    times = {"seconds": step.seconds, "data_wait_s": step.data_wait_s}
                    tell(meter.seen(step=step.step, loss=step.loss, images=seen, **times))
                    write(scalars(step), step.step)
                    if job.finished:
                        break
                    if _is_due(job, before):
                        _checkpoint(job, {}, report, flush)
            scores = _validate(job, meter, tell, write) if job.worker.rank == 0 else {}
            _checkpoint(job, scores, report, flush)
            job.loss_sum, job.loss_count = 0.0, 0
            tell(meter.change(state="training", epoch=job.position.epochs))
    tell(meter.change(state="finished"))


def _steps(job: Job) -> Iterator[Step]:
    """The steps from where the run is to the end of that epoch."""
    schedule, course, begin = job.recipe.schedule, job.course, job.position
    first_step, per_step = job.step, job.worker.world_size * course.accumulate

    def learning_rate(step: int) -> float:
        done = begin.batches + (step - first_step) * per_step
        return job.learning_rate(course.iteration(Position(begin.epochs, done)))

    return train_epoch(
        job.model,
        job.batches.epoch(begin.epochs, start=begin.batches),
        job.optimizer,
        learning_rate,
        first_step=first_step,
        seed=job.recipe.seed,
        rank=job.worker.rank,
        device=job.worker.device,
        accumulate=course.accumulate,
        clip_grad_norm=schedule.clip_grad_norm,
        after_step=None if job.mean is None else job.mean.update,
    )


def _is_due(job: Job, before: Position) -> bool:
    """Whether a checkpoint is to be written inside an epoch: the same on all workers. One at its end comes anyway."""
    every = job.recipe.schedule.checkpoint_every_iterations
    if every is None or not job.position.batches:
        return False
    return job.course.iteration(job.position) // every > job.course.iteration(before) // every


def _checkpoint(job: Job, scores: dict[str, float], report: Report, flush: Callable[[], None]) -> None:
    check_weights(job.detector)
    flush()  # what goes on from the checkpoint writes none of the steps before it again
    metrics: dict[str, Any] = {"epoch": job.position.epochs, "step": job.step}
    if job.worker.rank != 0:
        report(metrics, None)
        return
    metrics |= {"loss": job.loss_sum / job.loss_count, **scores}
    report(metrics, save(job, metrics))


def _validate(job: Job, meter: Meter, tell: Tell, write: Write) -> dict[str, float]:
    due = job.finished or job.position.epochs % job.recipe.schedule.validate_every_epochs == 0
    if job.validation is None or not due:
        return {}
    tell(meter.change(state="validating"))
    scores = job.validation.scores(job.tested, device=job.worker.device)
    write({f"val/{name}": value for name, value in scores.items()} | job.validation.samples.pictures, job.step)
    tell(meter.change(box_ap=scores.get("box_ap"), mask_ap=scores.get("mask_ap")))
    return scores


def _start(job: Job) -> RunProgress:
    end = job.course.end
    return RunProgress(
        job.recipe.name,
        epoch=job.position.epochs,
        epochs=end.epochs + (end.batches > 0),
        step=job.step,
        total_steps=job.step + job.course.steps_left(job.position, world_size=job.worker.world_size),
        note=job.note,
    )


@contextmanager
def _tensorboard(job: Job) -> Iterator[tuple[Write, Callable[[], None]]]:
    """Functions that write figures, texts and pictures of a step to `tensorboard/` and see that all are on the disk.

    They do nothing but on rank 0.
    """
    if job.worker.rank != 0:
        yield _ignore, _ignore
        return
    folder = job.recipe.run_dir / run_folder.TENSORBOARD
    # A resumed run hides what its killed forerunner wrote after its last checkpoint.
    with storage(folder):
        writer = SummaryWriter(folder, purge_step=job.step + 1 if job.step else None)

    def write(values: dict[str, Any], step: int) -> None:
        with storage(folder):
            for name, value in values.items():
                if isinstance(value, str):
                    writer.add_text(name, value, step)
                elif isinstance(value, np.ndarray):
                    writer.add_image(name, value, step, dataformats="HWC")
                else:
                    writer.add_scalar(name, value, step)

    def flush() -> None:
        with storage(folder):
            writer.flush()

    try:
        yield write, flush
    finally:
        with suppress(OSError):  # what ended the run says more
            writer.close()


def _ignore(*_: object) -> None:
    pass
