"""Images a second of a batch run on a cluster by the number of replicas of its view server, and what bends that line.

    python -m tests.benchmarks.batch_scaling [SECONDS]

The model is one that sleeps for 400 ms an image and then finds a hundred objects; everything else is real: JPEGs of
3 MB, made of the frames in `$TIS_RAY_DATA/wad`, Ray Data, Serve, fusion, run-length masks, shards written and flushed.
For each number of replicas the run lasts about SECONDS seconds (default 80). What the parts compute for an image is
measured meanwhile, and what that comes to with more replicas is worked out from it. The tables are written into
`docs/benchmarks.md`.
"""

import io
import math
import os
import statistics
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import ray
from numpy.typing import NDArray
from PIL import Image

from tests.benchmarks import pages
from tests.benchmarks.generate import views_of_boxes
from tests.benchmarks.idle_service import Idle
from tests.serving.load.footprint import cpu_seconds
from tests.tiny import save_tiny_checkpoint
from tis_ray.config import Ensemble, Limits
from tis_ray.formats.image_list import read_image_list
from tis_ray.formats.images import decode_image
from tis_ray.formats.members import ensemble_categories
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks
from tis_ray.runs.folder import RunFolder, create
from tis_ray.serving import app
from tis_ray.serving.local import free_port, serve_locally, start_ray
from tis_ray.serving.running import fusion_handle
from tis_ray.submission.beginning import IMAGES_PER_SHARD as IMAGES_PER_SHARD_BY_DEFAULT
from tis_ray.submission.pipeline import Segmented, Segmenter
from tis_ray.submission.replica_counts import with_replicas
from tis_ray.submission.service import ServiceSegmenter
from tis_ray.submission.streaming import enough_in_flight, num_actors, served, stream_shards
from tis_ray.views import View

PAGE, MARKS = pages.DOCS / "benchmarks.md", "batch scaling"
SERVICE_S = 0.4
REPLICAS = (1, 2, 4)
ON_PAPER = (64, 1000)
MUST_BE = 0.95
SECONDS = 80.0
IMAGES_PER_SHARD = 16
JPEG_BYTES = 3_000_000
OBJECTS, CLASSES, PATCH = 100, 3, 28
ROWS = 300  # shards of one small image each, answered at once, that the driver is asked for
FRAMES = 4  # different ones; the disk's cache holds them as it would in none of the runs that last
VIEW_SERVER = "member@800"
ANSWERED = "answered-"  # files of moments, one for each replica
REPLICA = {"num_cpus": 0.1, "num_gpus": 0}
# What computes for images, and what computes as time goes by, however many images pass; the driver is of the latter.
PARTS = {"readers": "actors that read", "Fusion": "fusion", VIEW_SERVER: "view servers", "raylet": "raylet"}
KEEPERS = {"GCS": "GCS", "controller": "Serve's controller"}
FUSION_TAKES = 2 * Limits().max_queued_requests  # at a time
BUSY = 0.7  # of a process's time, above which those who ask it wait


@dataclass(frozen=True)
class Scaled:
    """A run with so many replicas: its images a second once it is under way, the CPU seconds of each of its images by
    who computed them, and the share of a core that the driver and the `KEEPERS` were busy for."""

    replicas: int
    num_images: int
    per_s: float
    cpu_s: dict[str, float]
    driver_share: float
    keepers_share: dict[str, float]

    @property
    def of_linear(self) -> float:
        """The share of what so many replicas can do at most."""
        return self.per_s * SERVICE_S / self.replicas


@dataclass(frozen=True)
class Alone:
    """One image at a time: seconds of its decoding, and of its way through the service but for the model."""

    decode_s: float
    hop_s: float
    frame_bytes: int


def main() -> None:
    """Measure, print, and put the tables between the marks of the page."""
    text = figures(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS)
    print(text)
    pages.write(PAGE, MARKS, text)


def figures(seconds: float) -> str:
    """The tables, from runs of about so many seconds."""
    with tempfile.TemporaryDirectory() as scratch, slept_in():
        folder = Path(scratch)
        ensemble, jpegs = _ensemble(folder), _jpegs()
        alone, scaled = None, []
        for replicas in REPLICAS:
            more = with_replicas(ensemble, {VIEW_SERVER: replicas})
            run = _run(folder / f"{replicas}", more, jpegs, num_images=round(seconds / SERVICE_S) * replicas)
            start_ray(more, extra_cpus=num_actors(enough_in_flight(replicas)) + 1)
            try:
                with serve_locally(more, port=free_port()):
                    alone = alone or _alone(more, jpegs)
                    scaled.append(_scaled(more, run, replicas))
                if replicas == REPLICAS[-1]:
                    driver_s = _driver_s_of_a_shard(folder / "rows", ensemble)
            finally:
                ray.shutdown()
        assert alone is not None
        return f"{_table(scaled)}\n\n{_on_paper(scaled, alone, driver_s)}"


@contextmanager
def slept_in() -> Iterator[None]:
    """Applications that are built meanwhile have a model that sleeps."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(app, "load_predictor", Sleeping))
        stack.enter_context(mock.patch.object(app, "memory_taken", _nothing_taken))
        yield


def _nothing_taken(device: str) -> None:
    """Instead of asking PyTorch."""


class Sleeping(Idle):
    """A predictor that takes its time, one image after the other, and finds the same objects in each."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._found = _round_objects()
        self._answered = (Path(arguments[0]) / f"{ANSWERED}{os.getpid()}").open("ab", buffering=0)

    def predict(self, image: NDArray[np.uint8], views: Sequence[View], **_: Any) -> list[Instances]:
        time.sleep(SERVICE_S)
        self._answered.write(struct.pack("d", time.monotonic()))  # of the machine, not of the process
        return [self._found for _ in views]


def _round_objects() -> Instances:
    found = views_of_boxes(1, OBJECTS, CLASSES)
    across = np.linspace(-1.2, 1.2, PATCH)
    disc = np.clip(1.5 - np.hypot(across[:, None], across), 0, 1).astype(np.float16)
    masks = BoxMasks(found.boxes, np.repeat(disc[None], len(found.boxes), axis=0))
    return Instances.of(found.boxes, found.scores, found.labels, masks)


def _ensemble(folder: Path) -> Ensemble:
    save_tiny_checkpoint(folder / "member")
    content = {
        "members": {"member": {"checkpoint": str(folder / "member"), "scales": [800], "flip": False}},
        "fusion": {"rules": [{"nms": {"iou_threshold": 0.7}}, {"soft_nms": {}}], "top_k": OBJECTS},
        "replicas": dict.fromkeys(("default", "gateway", "fusion"), REPLICA),
        "auth": "none",
    }
    return Ensemble.model_validate(content)


def _jpegs() -> list[bytes]:
    """Real frames, each written anew with the finest quality that stays below 3 MB, and filled up to that."""
    data = os.environ.get("TIS_RAY_DATA")
    if not data:
        raise SystemExit("TIS_RAY_DATA: expected the folder of real images; it is not set")
    found = sorted((Path(data) / "wad" / "images").glob("*.jpg"), key=lambda path: path.stat().st_size)[-FRAMES:]
    return [_of_3_mb(decode_image(path.read_bytes(), max_pixels=None)) for path in found]


def _of_3_mb(pixels: NDArray[np.uint8]) -> bytes:
    low, high = 50, 100
    while low < high - 1:
        middle = (low + high) // 2
        low, high = (middle, high) if len(_written(pixels, middle)) <= JPEG_BYTES else (low, middle)
    content = _written(pixels, low)
    return content + bytes(JPEG_BYTES - len(content))  # readers stop at the picture's end


def _written(pixels: NDArray[np.uint8], quality: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="JPEG", quality=quality)
    return stream.getvalue()


def _run(
    folder: Path,
    ensemble: Ensemble,
    jpegs: Sequence[bytes],
    *,
    num_images: int,
    images_per_shard: int = IMAGES_PER_SHARD,
) -> RunFolder:
    images = folder / "images"
    images.mkdir(parents=True)
    for number, content in enumerate(jpegs):
        (folder / f"{number}.jpg").write_bytes(content)
    for number in range(num_images):
        (images / f"{number:06}.jpg").symlink_to(folder / f"{number % len(jpegs)}.jpg")
    return create(
        folder / "run",
        {},
        ensemble=ensemble,
        categories=ensemble_categories(ensemble),
        images=read_image_list(images),
        images_per_shard=images_per_shard,
        keeps_views=False,
    )


def _alone(ensemble: Ensemble, jpegs: Sequence[bytes], *, times: int = 20) -> Alone:
    decode_s, hop_s = [], []
    with closing(ServiceSegmenter(fusion_handle(), ensemble.views, deadline_s=60)) as segmenter:
        for number in range(times + 3):
            start = time.perf_counter()
            pixels = decode_image(jpegs[number % len(jpegs)], max_pixels=None)
            decoded = time.perf_counter()
            segmenter(pixels)
            if number >= 3:  # the first ones find handles and routes
                decode_s.append(decoded - start)
                hop_s.append(time.perf_counter() - decoded - SERVICE_S)
    return Alone(statistics.median(decode_s), statistics.median(hop_s), pixels.nbytes)


def _scaled(ensemble: Ensemble, run: RunFolder, replicas: int) -> Scaled:
    """From the end of the first shard to that of the last, so that actors that start take no part: how many images the
    models answered meanwhile, not how many are in shards that ended, of which some were half done at first."""
    shards = stream_shards(
        run,
        range(run.num_shards),
        open_segmenter=served(ensemble.views, deadline_s=ensemble.limits.max_deadline_s),
        in_flight=enough_in_flight(replicas),
    )
    with closing(shards):
        first = next(shards)
        left = len(run.images) - first.num_images
        before, began, computed = _computed(), time.monotonic(), time.process_time()
        for done in shards:
            assert done.num_ok == done.num_images, done
            left -= done.num_images
            if not left:  # before the actors go
                ended, driver_s, after = time.monotonic(), time.process_time() - computed, _computed()
    count, seconds = sum(began < moment <= ended for moment in _answered(ensemble)), ended - began
    cpu_s = {part: (after[part] - before[part]) / count for part in PARTS}
    keepers_share = {part: (after[part] - before[part]) / seconds for part in KEEPERS}
    return Scaled(replicas, count, count / seconds, cpu_s, driver_s / seconds, keepers_share)


def _driver_s_of_a_shard(folder: Path, ensemble: Ensemble) -> float:
    """CPU seconds of the driver for a shard that costs nobody anything else: its task, its row, and its share of what
    the driver does as time goes by."""
    small = _written(np.zeros((8, 8, 3), np.uint8), 90)
    run = _run(folder, ensemble, [small], num_images=ROWS, images_per_shard=1)
    with closing(stream_shards(run, range(ROWS), open_segmenter=_finds_nothing, in_flight=2)) as shards:
        next(shards)
        before = time.process_time()
        left = sum(done.num_ok for done in shards)
        return (time.process_time() - before) / left


def _finds_nothing() -> Segmenter:
    return lambda image: Segmented(Instances.empty())


def _answered(ensemble: Ensemble) -> Iterator[float]:
    """When the models answered."""
    for file in ensemble.members["member"].checkpoint.glob(f"{ANSWERED}*"):
        yield from (moment for (moment,) in struct.iter_unpack("d", file.read_bytes()))


def _computed() -> Counter[str]:
    return Counter(cpu_seconds())


def _table(scaled: Sequence[Scaled]) -> str:
    lines = [
        pages.machine("ray"),
        "",
        "| replicas | images | images/s | at most | share of linear | must be |",
        "|---" * 6 + "|",
    ]
    for one in scaled:
        most = one.replicas / SERVICE_S
        lines.append(
            f"| {one.replicas} | {one.num_images} | {one.per_s:.3f} | {most:g} | **{one.of_linear:.1%}** "
            f"| {MUST_BE:.0%} |"
        )
    lines += ["", "Computed for each image, ms of one core:", ""]
    lines += ["| replicas | " + " | ".join(PARTS.values()) + " |", "|---" * (len(PARTS) + 1) + "|"]
    for one in scaled:
        lines.append(f"| {one.replicas} | " + " | ".join(f"{1e3 * one.cpu_s[part]:.1f}" for part in PARTS) + " |")
    lines += ["", "Busy whatever the images, share of one core:", ""]
    lines += ["| replicas | driver | " + " | ".join(KEEPERS.values()) + " |", "|---" * (len(KEEPERS) + 2) + "|"]
    for one in scaled:
        shares = [one.driver_share, *(one.keepers_share[part] for part in KEEPERS)]
        lines.append(f"| {one.replicas} | " + " | ".join(f"{share:.1%}" for share in shares) + " |")
    return "\n".join(lines)


def _on_paper(scaled: Sequence[Scaled], alone: Alone, driver_s: float) -> str:
    """What more replicas come to, from what each part of a run computes and moves for an image, and from the seconds of
    the driver for a shard, which holds so many images as it does by default."""
    most = scaled[-1]
    lines = [
        f"One image alone: {1e3 * alone.decode_s:.0f} ms to decode, {1e3 * alone.hop_s:.0f} ms from there to its "
        f"answer beside the model's {1e3 * SERVICE_S:.0f}, {alone.frame_bytes / 1e6:.1f} MB of pixels in the object "
        f"store. A shard, which holds {IMAGES_PER_SHARD_BY_DEFAULT} images by default, takes the driver "
        f"{1e3 * driver_s:.1f} ms.",
        "",
        "On paper, for replicas that nothing keeps waiting:",
        "",
        "| | " + " | ".join(f"{count} replicas" for count in ON_PAPER) + " |",
        "|---" * (len(ON_PAPER) + 1) + "|",
    ]
    rates = [count / SERVICE_S for count in ON_PAPER]
    in_flight = [enough_in_flight(count) for count in ON_PAPER]
    rows = {
        "images/s": [f"{rate:g}" for rate in rates],
        "images in flight, actors that read": [f"{count}, {num_actors(count)}" for count in in_flight],
        "cores for these actors": [f"{rate * most.cpu_s['readers']:.0f}" for rate in rates],
        f"replicas of `Fusion`, busy for {BUSY:.0%} of their time": [
            f"{math.ceil(rate * most.cpu_s['Fusion'] / BUSY)}" for rate in rates
        ],
        f"replicas of `Fusion`, with {FUSION_TAKES} images each": [
            f"{-(-count // FUSION_TAKES)}" for count in in_flight
        ],
        "a core of the driver, busy for": [
            f"{most.driver_share + driver_s * rate / IMAGES_PER_SHARD_BY_DEFAULT:.1%}" for rate in rates
        ],
        "pixels put and read, GB/s": [f"{rate * alone.frame_bytes / 1e9:.1f}" for rate in rates],
        "pixels held, GB": [f"{count * alone.frame_bytes / 1e9:.1f}" for count in in_flight],
        "the frames' files, GB/s": [f"{rate * JPEG_BYTES / 1e9:.2f}" for rate in rates],
    }
    return "\n".join([*lines, *(f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows.items())])


if __name__ == "__main__":
    main()
