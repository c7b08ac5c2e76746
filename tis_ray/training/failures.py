"""What went wrong in a training run, from Ray's account of it to one line that says what can be done."""

from ray.exceptions import RayError, RayTaskError
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from tis_ray.errors import TisRayError


class TrainingError(TisRayError):
    """A run was lost, ran out of memory or ended early."""


def explain(error: Exception, name: str) -> Exception:
    """The error to raise for what `fit` raised in run `name`: a worker's own where it is the user's to mend."""
    if isinstance(error, TisRayError):
        return error
    if isinstance(error, RayError) and not isinstance(error, RayTaskError):
        return TrainingError(f"{name}: the run was lost ({first_line(error)}); resume to go on")
    if isinstance(error, ControllerError):
        return _unexpected(name, "controller", error.controller_failure)
    if not isinstance(error, WorkerGroupError):
        return _unexpected(name, "trainer", error)
    failures = [error.worker_failures[rank] for rank in sorted(error.worker_failures)]
    for failure in failures:
        if isinstance(failure, TisRayError):
            return type(failure)(f"{name}: {failure}")
    for failure in failures:
        if type(failure).__name__ == "OutOfMemoryError":
            return TrainingError(
                f"{name}: out of memory ({first_line(failure)}); lower data.batch_size or data.scales, then resume"
            )
        if isinstance(failure, RayError):
            return TrainingError(f"{name}: a worker was lost ({first_line(failure)}); resume to go on")
    rank = min(error.worker_failures)
    return _unexpected(name, f"worker {rank}", failures[0], details=str(error))


def _unexpected(name: str, where: str, error: Exception, *, details: str = "") -> RuntimeError:
    unexpected = RuntimeError(f"{name}: {where} failed: {type(error).__name__}: {first_line(error)}")
    unexpected.__cause__ = error
    if details:
        unexpected.add_note(details)
    return unexpected


def first_line(error: Exception) -> str:
    """The first line of an error's text that is not empty, else its type."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
