"""What went wrong in a training run: whether a restart may mend it, and one line that says what can be done.

A worker that is lost takes others with it, which fail at the connection that broke; such echoes say nothing of their
own.
"""

import re
from collections.abc import Mapping

from ray.exceptions import RayError, RayTaskError
from ray.train.v2.api.exceptions import ControllerError, PreemptionError, WorkerGroupError

from tis_ray.errors import TisRayError

# Of PyTorch's collectives: NCCL's errors have types of their own, Gloo's are RuntimeErrors. By name, for this module is
# imported where PyTorch need not be.
_BROKEN_CONNECTIONS = {"DistBackendError", "DistNetworkError", "DistStoreError"}
_BROKEN_CONNECTION = re.compile(r"gloo|NCCL|connection (closed|reset|refused)|broken pipe|timed out waiting", re.I)
_LOST_DEVICE = {"AcceleratorError"}  # a CUDA error that PyTorch cannot name, such as a GPU that fell off the bus


class TrainingError(TisRayError):
    """A run was lost, ran out of memory or ended early."""


class EndedError(Exception):
    """Raised in Ray Train's controller so that it ends a run; holds what its workers failed with, by rank."""

    def __init__(self, failures: dict[int, Exception]) -> None:
        super().__init__(failures)
        self.failures = failures


def ending(failures: Mapping[int, Exception]) -> tuple[int, Exception] | None:
    """Rank and failure among those of a run's workers that no restart would mend, None where one may.

    That is a user's mistake before everything else, then a lack of GPU memory, then what nobody expected.
    """
    final = [(rank, failures[rank]) for rank in sorted(failures) if not _may_pass(failures[rank])]
    return min(final, key=lambda found: (not _is_mistake(found[1]), not _is_out_of_memory(found[1])), default=None)


def told(failures: Mapping[int, Exception], places: Mapping[int, str]) -> str:
    """Which worker was lost and why, in one line; where nobody knows yet, who noticed.

    places: where each worker was, by rank, as far as known
    """
    gone = [rank for rank in sorted(failures) if _is_loss(failures[rank])]
    rank = (gone or sorted(failures))[0]
    befell = "was lost" if gone else "lost the connection to another one"
    if type(failures[rank]).__name__ in _LOST_DEVICE:
        befell = "lost its device"
    return f"{_worker(rank, places)} {befell} ({_reason(failures[rank])})"


def was_taken_away(failures: Mapping[int, Exception]) -> bool:
    """Whether a node was taken away as its cloud had announced, which Ray Train counts as no failure."""
    return any(getattr(_cause(error), "preempted", False) for error in failures.values())


def explain(error: Exception, name: str, *, places: Mapping[int, str] | None = None, restarts: int = 0) -> Exception:
    """The error to raise for what `fit` raised in run `name`: a worker's own where it is the user's to mend.

    places:   where each worker was, by rank, as far as known
    restarts: how often the run had gone on after a lost worker before it gave up
    """
    if isinstance(error, TisRayError):
        return error
    if isinstance(error, RayError) and not isinstance(error, RayTaskError):
        return TrainingError(f"{name}: the run was lost ({first_line(error)}); go on with --resume")
    if isinstance(error, PreemptionError):
        return TrainingError(f"{name}: its nodes were taken away; go on with --resume")
    if isinstance(error, WorkerGroupError):
        return _of_workers(error.worker_failures, name, places or {}, restarts)
    if not isinstance(error, ControllerError):
        return _unexpected(name, "trainer", error)
    if isinstance(error.controller_failure, EndedError):
        return _of_workers(error.controller_failure.failures, name, places or {}, restarts)
    return _unexpected(name, "controller", error.controller_failure)


def _of_workers(failures: Mapping[int, Exception], name: str, places: Mapping[int, str], restarts: int) -> Exception:
    found = ending(failures)
    if found is None:
        often = f" after {restarts} restart{'s' if restarts > 1 else ''} (resources.max_failures)" if restarts else ""
        return TrainingError(f"{name}: {told(failures, places)}{often}; go on with --resume")
    rank, failure = found
    if _is_mistake(failure):
        return type(failure)(f"{name}: {failure}")
    if _is_out_of_memory(failure):
        return TrainingError(
            f"{name}: {_worker(rank, places)} is out of GPU memory ({first_line(failure)}); lower data.batch_size or "
            "data.scales, or set resources.activation_checkpointing"
        )
    return _unexpected(name, _worker(rank, places), failure)


def first_line(error: Exception) -> str:
    """The first line of an error's text that is not empty, else its type."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _worker(rank: int, places: Mapping[int, str]) -> str:
    return f"worker {rank} on {places[rank]}" if rank in places else f"worker {rank}"


def _reason(failure: Exception) -> str:
    """Why a worker was lost, without the place in PyTorch's source and without Ray's advice."""
    return re.sub(r"^\[[^]]*\] *", "", first_line(_cause(failure))).split(". ")[0].rstrip(".:")


def _may_pass(error: Exception) -> bool:
    return _is_loss(error) or _is_echo(error) or type(error).__name__ in _LOST_DEVICE


def _is_loss(error: Exception) -> bool:
    """Whether Ray found the worker gone: its own errors, but for those that stand for what a worker raised."""
    cause = _cause(error)
    return type(cause).__module__.startswith("ray.") and not isinstance(cause, RayTaskError)


def _is_echo(error: Exception) -> bool:
    if type(error).__name__ in _BROKEN_CONNECTIONS:
        return True
    return type(error) is RuntimeError and _BROKEN_CONNECTION.search(str(error)) is not None


def _is_mistake(error: Exception) -> bool:
    return isinstance(error, TisRayError)


def _is_out_of_memory(error: Exception) -> bool:
    return type(error).__name__ == "OutOfMemoryError"


def _cause(error: Exception) -> Exception:
    """What Ray Train's health check of a worker failed with, else the error itself."""
    return getattr(error, "health_check_failure", error)


def _unexpected(name: str, where: str, error: Exception) -> RuntimeError:
    unexpected = RuntimeError(f"{name}: {where} failed: {type(error).__name__}: {first_line(error)}")
    unexpected.__cause__ = error
    return unexpected
