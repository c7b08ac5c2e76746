"""Training on a cluster from here: send a job, follow its log, fetch its checkpoints."""

import asyncio
import secrets
import shlex
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import aiohttp
import orjson
from ray.job_submission import JobDetails, JobStatus

from tis_ray.cluster.fetch import fetch_checkpoint
from tis_ray.cluster.head import Head
from tis_ray.cluster.parcel import pack
from tis_ray.config import Recipe
from tis_ray.errors import ConfigError, ServiceError, TisRayError
from tis_ray.training import run_folder
from tis_ray.training.order import moved

POLL_S = 2.0
PATIENCE_S = 300.0  # how long a cluster that is being followed may be out of reach
TARGETS = "tis_ray.targets"  # in a job's metadata: checkpoint folders here by recipe name
_LAST_LINES = 200
_LAST_ATTEMPTS = 5  # to read the log of a job that has ended


class JobError(TisRayError):
    """A job failed on the cluster, or was stopped."""


def submit(
    head: Head,
    recipes: Sequence[Recipe],
    *,
    storage: str | None = None,
    working_dir: Path = Path(),
    resume: bool = False,
    say: Callable[[str], None],
) -> str:
    """Send a job that trains `recipes`, and return its name.

    storage: folder for the runs on the cluster, on storage that its nodes share; None for each recipe's own output
    Relative paths in the recipes start at this process's folder; the cluster must know them under the same names. A
    recipe that begins from the checkpoint of another one's run finds it where that run is on the cluster.
    Raises `ConfigError` for a relative `storage`, and where a checkpoint of a recipe is here already, unless `resume`.
    """
    recipes = [run_folder.absolute(recipe) for recipe in recipes]
    targets = {recipe.name: recipe.run_dir / run_folder.FINISHED for recipe in recipes}
    _check(recipes, targets, resume=resume)
    job = f"tis-ray-{'-'.join(targets)[:80]}-{secrets.token_hex(4)}"
    sent = moved(recipes, {recipe.name: _stored(recipe, storage) for recipe in recipes})
    with tempfile.TemporaryDirectory(prefix="tis-ray-") as folder:
        parcel = pack(Path(folder), sent, working_dir=working_dir)
        say(f"sending {parcel.num_files} files, {parcel.num_bytes / 2**20:.1f} MiB, to {head.address}")
        command = ["python", "-m", "tis_ray.cluster.job", *parcel.recipes, "--leave-for", job]
        head.submit(
            shlex.join([*command, "--resume"] if resume else command),
            job=job,
            working_dir=parcel.folder,
            variables={"PYTHONUNBUFFERED": "1"},
            metadata={TARGETS: orjson.dumps({name: str(path) for name, path in targets.items()}).decode()},
        )
    return job


def follow(head: Head, job: str, *, show: Callable[[str], None]) -> None:
    """Hand the lines of the job's log to `show` until it has ended. Raises `JobError` where it did not succeed."""
    last: deque[str] = deque(maxlen=_LAST_LINES)

    def note(line: str) -> None:
        last.append(line)
        show(line)

    asyncio.run(_follow(head, job, note))
    details = head.job(job)
    if details.status == JobStatus.STOPPED:
        raise JobError(f"{job} was stopped")
    if details.status != JobStatus.SUCCEEDED:
        reason = error_line(last) or error_line((details.message or "").splitlines())
        raise JobError(f"{job} failed: {reason or 'no reason given'}")


def fetch(head: Head, job: str, *, say: Callable[[str], None]) -> list[Path]:
    """Fetch the checkpoints of a job that has succeeded to where it was submitted for; their folders."""
    targets = targets_of(head.job(job))
    if not targets:
        raise ConfigError(f"job: expected one that `tis-ray train --submit` sent; got {job}")
    for name, target in targets.items():
        fetch_checkpoint(head, job=job, recipe=name, target=target, say=say)
    return list(targets.values())


def targets_of(job: JobDetails) -> dict[str, Path]:
    """Checkpoint folders on the machine that sent a job, by recipe; none for a job that is not tis-ray's.

    Anybody on the cluster may have written them: only what `submit` writes, `OUTPUT/NAME/checkpoint`, is taken.
    """
    try:
        noted = orjson.loads((job.metadata or {}).get(TARGETS, "{}"))
        targets = {str(name): Path(path) for name, path in noted.items()}
    except (ValueError, TypeError, AttributeError):
        return {}
    own = all(path.is_absolute() and path.parts[-2:] == (name, run_folder.FINISHED) for name, path in targets.items())
    return targets if own else {}


def error_line(lines: Sequence[str]) -> str:
    """The line of a log that says why it ended: the last `error: ...`, else the last that is not empty."""
    told = [line.strip() for line in lines if line.strip()]
    return next((line for line in reversed(told) if line.startswith("error:")), told[-1] if told else "")


def _check(recipes: Sequence[Recipe], targets: Mapping[str, Path], *, resume: bool) -> None:
    if len(targets) != len(recipes):
        raise ConfigError(f"name: expected another for each recipe; got {', '.join(one.name for one in recipes)}")
    for target in targets.values():
        if target.exists() and not resume:
            raise ConfigError(f"output: {target} is there already; choose another name or output, or --resume")


def _stored(recipe: Recipe, storage: str | None) -> Recipe:
    if storage is None:
        return recipe
    if not storage.startswith(("/", "~")):  # a job's own folder there is deleted with it
        raise ConfigError(f"--storage: expected an absolute path that the cluster's nodes share; got {storage}")
    return recipe.model_copy(update={"output": Path(storage)})


async def _follow(head: Head, job: str, note: Callable[[str], None]) -> None:
    """Follow through broken connections: the log is sent from its beginning each time, what is known is passed over.

    It is whole where it was read to its end after the job's, or as whole as it gets after some attempts.
    """
    known, attempts_left = 0, _LAST_ATTEMPTS
    ended = head.job(job).status.is_terminal()
    while True:
        lines = _Lines(note, skip=known)
        whole = True
        try:
            async for piece in head.tail(job):
                lines.add(piece)
        except (aiohttp.ClientError, OSError, RuntimeError):
            whole = False
        attempts_left -= ended
        last = ended and (whole or not attempts_left)
        known = lines.close(last)
        if last:
            return
        await asyncio.sleep(0 if ended else POLL_S)
        ended = await _has_ended(head, job)


async def _has_ended(head: Head, job: str) -> bool:
    """Whether a job has; a cluster that is not reached is asked again for some time."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return head.job(job).status.is_terminal()
        except ServiceError:
            if time.monotonic() > end:
                raise
        await asyncio.sleep(POLL_S)


class _Lines:
    """Cuts pieces of text into lines, of which the first `skip` are not told."""

    def __init__(self, note: Callable[[str], None], *, skip: int) -> None:
        self._note, self._skip = note, skip
        self._rest, self._count = "", 0

    def add(self, piece: str) -> None:
        *whole, self._rest = (self._rest + piece).split("\n")
        for line in whole:
            self._tell(line)

    def close(self, ended: bool) -> int:
        """The number of lines that are known now; a last one without an end counts where the log has `ended`."""
        if ended and self._rest:
            self._tell(self._rest)
        return max(self._skip, self._count)

    def _tell(self, line: str) -> None:
        self._count += 1
        if self._count > self._skip:
            self._note(line.rstrip("\r"))


def stop(head: Head, job: str, *, within_s: float = 30.0) -> JobStatus:
    """Ask a job to end and wait until it has, at most `within_s` seconds; its status then."""
    if not head.job(job).status.is_terminal():
        head.stop(job)
    return asyncio.run(_ended(head, job, within_s))


async def _ended(head: Head, job: str, within_s: float) -> JobStatus:
    for _ in range(int(within_s / 0.5)):
        status = head.job(job).status
        if status.is_terminal():
            return status
        await asyncio.sleep(0.5)
    raise ServiceError(f"{job}: expected it to end within {within_s:g} s; it is {status}")
