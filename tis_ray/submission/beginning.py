"""How a batch run begins: a new folder or one that is gone on with, and what there is to do in it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tis_ray.config import Ensemble
from tis_ray.errors import ConfigError, DataError
from tis_ray.formats.image_list import ListedImage
from tis_ray.instances import Categories
from tis_ray.runs import kept_views, shards
from tis_ray.runs.binding import check_same
from tis_ray.runs.folder import RunFolder, create, holds_run, open_run
from tis_ray.runs.records import Status
from tis_ray.submission.pipeline import bytes_of

IMAGES_PER_SHARD = 32
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ToDo:
    """What a run has yet to do.

    numbers: of the shards to work on, ascending
    again:   ids of the images to look at in those of them that are there already
    num_images: how many are to be looked at
    has_worked: whether anything was found in another image before
    """

    numbers: Sequence[int] = ()
    again: Mapping[int, Collection[int]] = field(default_factory=dict)
    num_images: int = 0
    has_worked: bool = False


def run_path(out: Path) -> Path:
    """Where the run that writes `out` lies unless it is told: `results.run` beside `results.json`."""
    return out.with_suffix(".run")


def begun(
    path: Path,
    about: Mapping[str, Any],
    *,
    ensemble: Ensemble,
    categories: Categories,
    images: Sequence[ListedImage],
    images_per_shard: int | None = None,
    keep_views: bool = False,
    resume: bool = False,
    fresh: bool = False,
    say: Say,
) -> RunFolder:
    """The run in the folder `path`, which this process has locked: a new one, or with `resume` the one that is there.

    A run in which nothing is done gives way to a new one. Raises `ConfigError` where more is done and neither `resume`
    nor `fresh` says what becomes of it, and for going on with a run of something else (see `check_same`).
    """
    former = None if fresh or not holds_run(path) else open_run(path)
    if resume and former is None:
        say(f"no run is in {path} to go on with; a new one begins")
    if former is None or not former.done():
        return create(
            path,
            about,
            ensemble=ensemble,
            categories=categories,
            images=images,
            images_per_shard=images_per_shard or IMAGES_PER_SHARD,
            keeps_views=keep_views,
        )
    if not resume:
        raise ConfigError(
            f"--out: {path} holds a run, {former.num_done} of {len(former.images)} images done; go on with it with "
            "--resume, or begin anew with --fresh, which deletes it"
        )
    check_same(path, former.about, about)
    _check_options(former, images_per_shard, keep_views=keep_views)
    former.sweep()
    return former.moved(images, ensemble)


def to_do(run: RunFolder, *, retry: Collection[Status] = (), say: Say) -> ToDo:
    """The shards that are missing, and the images of others that have to be looked at again.

    These are the ones whose status is in `retry`, and the ones whose file has another length than when it was looked
    at. A shard that is damaged, or lacks its views, is taken away and done anew: nothing but time is lost.
    """
    done = set(run.done())
    again: dict[int, set[int]] = {}
    num_changed, has_worked = 0, False
    for number in sorted(done):
        try:
            noted = _noted(run, number)
        except DataError as error:
            say(f"{error}; its images are looked at again")
            run.discard(number)
            done.remove(number)
            continue
        paths = {image.id: image.path for image in run.images_of(number)}
        changed = {one.image_id for one in noted if one.file_bytes != (bytes_of(paths[one.image_id]) or one.file_bytes)}
        chosen = changed | {one.image_id for one in noted if one.status in retry}
        num_changed += len(changed)
        has_worked = has_worked or any(one.status != "failed" for one in noted)
        if chosen:
            again[number] = chosen
    if num_changed:
        say(f"{num_changed} images have changed since they were looked at and are looked at again")
    numbers = [number for number in range(run.num_shards) if number not in done or number in again]
    num_images = sum(len(again.get(number, run.images_of(number))) for number in numbers)
    if done:
        say(f"{len(run.images) - num_images} of {len(run.images)} images are done already")
    return ToDo(numbers, again, num_images, has_worked)


def _noted(run: RunFolder, number: int) -> list[shards.Noted]:
    noted = shards.noted(run.shard(number), run.digest)
    expected, got = [image.id for image in run.images_of(number)], [one.image_id for one in noted]
    if got != expected:
        raise DataError(f"{run.shard(number)}: expected the images {expected[:3]}...; got {got[:3]}...")
    if run.keeps_views:
        kept_views.check(run.view_shard(number), run.digest)
    return noted


def _check_options(run: RunFolder, images_per_shard: int | None, *, keep_views: bool) -> None:
    if keep_views and not run.keeps_views:
        raise ConfigError(
            f"--keep-views: expected a run that began with it; got {run.path}, which kept no views "
            "(go on without it, or begin anew with --fresh)"
        )
    if images_per_shard not in (None, run.images_per_shard):
        raise ConfigError(
            f"--images-per-shard: expected {run.images_per_shard}, with which the run in {run.path} began; "
            f"got {images_per_shard}"
        )
