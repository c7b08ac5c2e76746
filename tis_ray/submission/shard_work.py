"""The work on shards: segment the images of each and write it whole, in the driver of a run or in an actor of it.

Whoever does it needs the run's folder and a segmenter, no Ray and no console.
"""

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from time import monotonic

from tis_ray.formats.image_list import ListedImage
from tis_ray.runs.folder import RunFolder
from tis_ray.runs.records import STATUSES, ImageOutcome, ImageViews, Status
from tis_ray.submission.pipeline import GIVE_UP_AFTER, ImageResult, Segmenter, Streak, segment_images
from tis_ray.submission.window import Window


@dataclass(frozen=True, slots=True)
class ShardDone:
    """A shard that was written: how many images of it were looked at now, and what came of them.

    num_instances: found in these images
    seconds: from the end of the shard before it, or from the beginning
    """

    number: int
    num_ok: int
    num_degraded: int
    num_failed: int
    num_instances: int
    seconds: float

    @property
    def num_images(self) -> int:
        """How many were looked at."""
        return self.num_ok + self.num_degraded + self.num_failed


def segment_shard(
    segmenter: Segmenter,
    run: RunFolder,
    number: int,
    *,
    in_flight: int | Window = 8,
    again: Collection[int] | None = None,
    streak: Streak | None = None,
) -> ShardDone:
    """Segment one shard and write it; see `segment_shards`. `again` are ids of images, None for all of the shard.

    `streak` is the same one for all shards of a segmenter.
    """
    chosen = {} if again is None else {number: again}
    (done,) = segment_shards(segmenter, run, [number], in_flight=in_flight, again=chosen, streak=streak)
    return done


def segment_shards(
    segmenter: Segmenter,
    run: RunFolder,
    numbers: Sequence[int],
    *,
    in_flight: int | Window = 8,
    again: Mapping[int, Collection[int]] | None = None,
    has_worked: bool = False,
    streak: Streak | None = None,
    on_image: Callable[[ImageOutcome], None] | None = None,
) -> Generator[ShardDone, None, None]:
    """Segment shards one after the other and write each; those of the next are in flight while one is written.

    At most `in_flight` images are opened or waiting at any time; a window may be shared with other calls, whose images
    are in flight while these shards begin and end. Of the shards that `again` names, the images of these
    ids alone are looked at; the others stay as they are, and so does one that got worse though its file is as long as
    before. `on_image` is called with each image as it is there. Raises `ServiceError` where the segmenter fails on too
    many images in a row (see `segment_images`, also for `has_worked` and `streak`), and `OSError` where a shard cannot
    be written. Close the generator when stopping early.
    """
    again = again or {}
    todo = {number: _chosen(run.images_of(number), again.get(number)) for number in numbers}
    images = [image for number in numbers for image in todo[number]]
    began = monotonic()
    streak = streak or Streak(has_worked, at_first=min(GIVE_UP_AFTER, len(images)))
    with closing(segment_images(segmenter, images, in_flight=in_flight, streak=streak)) as results:
        for number in numbers:
            found = []
            for result in islice(results, len(todo[number])):
                found.append(result)
                if on_image is not None:
                    on_image(result.outcome)
            _write(run, number, found, replacing=number in again)
            now = monotonic()
            yield shard_done(number, [result.outcome for result in found], now - began)
            began = now


def _chosen(images: Sequence[ListedImage], ids: Collection[int] | None) -> Sequence[ListedImage]:
    return images if ids is None else [image for image in images if image.id in set(ids)]


def _write(run: RunFolder, number: int, found: Sequence[ImageResult], *, replacing: bool) -> None:
    outcomes = {result.image.id: result.outcome for result in found}
    views = {result.image.id: result.views for result in found} if run.keeps_views else {}
    if replacing:
        before = {one.image_id: one for one in run.outcomes_of(number)}
        better = {key for key, one in outcomes.items() if _counts(one, before[key])}
        outcomes = before | {key: outcomes[key] for key in better}
        views_before: Mapping[int, ImageViews] = {}
        if run.keeps_views:
            views_before = {one.image_id: one for one in run.views_of(number)}
        views = {**views_before, **{key: one for key, one in views.items() if key in better}}
    order = [image.id for image in run.images_of(number)]
    run.write(number, [outcomes[key] for key in order], [views[key] for key in order] if run.keeps_views else ())


def _counts(now: ImageOutcome, before: ImageOutcome) -> bool:
    """Whether what came of an image now takes the place of what came of it before."""
    other_image = now.file_bytes not in (None, before.file_bytes)  # nor is one that is gone another one
    return other_image or STATUSES.index(now.status) <= STATUSES.index(before.status)


def shard_done(number: int, outcomes: Sequence[ImageOutcome], seconds: float = 0.0) -> ShardDone:
    """What is told of a shard with these outcomes."""

    def count(status: Status) -> int:
        return sum(one.status == status for one in outcomes)

    num_instances = sum(len(one.instances) for one in outcomes)
    return ShardDone(number, count("ok"), count("degraded"), count("failed"), num_instances, seconds)
