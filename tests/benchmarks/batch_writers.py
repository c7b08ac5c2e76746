"""Writing the files of large batch runs: time and peak memory, and a WAD CSV of large frames.

    python -m tests.benchmarks.batch_writers [--images 100000] [--frames 2000]

The first run has images of 640x480 with 20 instances, written as COCO's, LVIS's and annotation tools' JSON; the second
has frames of 3384x2710 with 100 instances, written as a WAD CSV. Masks are uneven ellipses of 8 to 300 px, like those
that are predicted. Shards are made by giving the same few images other names; each run is written in a process of its
own, after a small one of its kind, and its peak of resident memory is that of the whole process, libraries included.
The table is written into `docs/benchmarks.md`.
"""

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.benchmarks import pages
from tests.benchmarks.resident import resident_mb
from tis_ray.config import Ensemble, parse
from tis_ray.formats.image_list import ListedImage
from tis_ray.formats.wad_classes import EVALUATED
from tis_ray.instances import Instances
from tis_ray.masks import RunMasks
from tis_ray.ops.run_algebra import bounds
from tis_ray.ops.runs import Runs
from tis_ray.runs.folder import RunFolder, create
from tis_ray.runs.records import ImageOutcome
from tis_ray.submission.converting import convert

PER_SHARD = 32


def main() -> None:
    """Make the runs, write them; print what it took, and write it into `docs/benchmarks.md`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--frames", type=int, default=2000)
    options = parser.parse_args()
    lines = [
        "| format | images | instances | s | s of a core | peak, MB | file, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    rows = (
        (options.images, 20, (480, 640), ["coco", "lvis", "annotations"]),
        (options.frames, 100, (2710, 3384), ["wad"]),
    )
    for num_images, per_image, size_hw, formats in rows:
        with tempfile.TemporaryDirectory() as folder:
            small = make_run(Path(folder) / "small.run", PER_SHARD, per_image, size_hw)
            run = make_run(Path(folder) / "r.run", num_images, per_image, size_hw)
            for name in formats:
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    pool.apply(measure, (small.path, Path(folder) / "small", name))  # kernels are compiled or loaded
                    seconds, cpu_s, peak_mb, written_mb = pool.apply(measure, (run.path, Path(folder) / "out", name))
                lines.append(
                    f"| {name} | {num_images} of {size_hw[1]}x{size_hw[0]} | {num_images * per_image} | "
                    f"{seconds:.1f} | {cpu_s:.1f} | {peak_mb:.0f} | {written_mb:.0f} |"
                )
                print(lines[-1], flush=True)
    pages.write(
        pages.DOCS / "benchmarks.md", "batch writers", "\n".join([*lines, "", pages.machine("pyarrow", "numpy")])
    )


def measure(run: Path, out: Path, name: str) -> tuple[float, float, float, float]:
    """Seconds, those of a core, peak MB of this process, and MB written."""
    started, cpu_started = time.perf_counter(), time.process_time()
    convert(run, out, formats=[name])
    seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu_started
    return seconds, cpu_s, resident_mb(), out.stat().st_size / 1e6


def make_run(path: Path, num_images: int, per_image: int, size_hw: tuple[int, int]) -> RunFolder:
    """A finished run; the same on every machine."""
    ensemble = parse(Ensemble, {"members": {"a": {"checkpoint": "x", "scales": [800]}}}, (), source="benchmark")
    images = [ListedImage(i, f"{i:06d}.jpg", Path(f"{i:06d}.jpg"), size_hw) for i in range(num_images)]
    run = create(
        path,
        {},
        ensemble=ensemble,
        categories=EVALUATED,
        images=images,
        images_per_shard=PER_SHARD,
        keeps_views=False,
    )
    run.write(0, [_outcome(image, per_image, size_hw) for image in run.images_of(0)])
    stored = pq.read_table(run.shard(0))
    for number in range(1, run.num_shards):
        here = run.images_of(number)
        table = stored.slice(0, len(here))
        for name, values in (("image_id", [one.id for one in here]), ("file_name", [one.file_name for one in here])):
            at = table.schema.get_field_index(name)
            table = table.set_column(at, table.schema.field(at), pa.array(values))
        pq.write_table(table, run.shard(number), compression="zstd")
    return run


def _outcome(image: ListedImage, count: int, size_hw: tuple[int, int]) -> ImageOutcome:
    rng = np.random.default_rng(image.id)
    sides = np.exp(rng.uniform(np.log(8), np.log(300), (count, 1))) * np.exp(rng.normal(0, 0.3, (count, 2)))
    wh = np.minimum(sides, [size_hw[1] / 2, size_hw[0] / 2])
    corners = rng.random((count, 2)) * ([size_hw[1], size_hw[0]] - wh)
    runs = _ellipses(np.concatenate([corners, wh], axis=1), *size_hw, rng)
    found = Instances.of(bounds(runs), rng.random(count), rng.integers(0, len(EVALUATED), count), RunMasks(runs))
    return ImageOutcome(image.id, image.file_name, size_hw, "ok", found)


def _ellipses(boxes: np.ndarray, height: int, width: int, rng: np.random.Generator) -> Runs:
    """Ellipses in boxes (N, 4) xywh whose upper and lower edges waver by a pixel from column to column."""
    first = boxes[:, 0].astype(np.int64)
    columns = np.minimum((boxes[:, 0] + boxes[:, 2]).astype(np.int64), width) - first
    which = np.repeat(np.arange(len(boxes)), columns)
    begins = np.concatenate([[0], np.cumsum(columns)])
    x = np.arange(begins[-1]) - begins[which] + first[which]
    across = np.clip((x + 0.5 - boxes[which, 0]) / boxes[which, 2] * 2 - 1, -1, 1)
    half, middle = np.sqrt(1 - across**2) * boxes[which, 3] / 2, boxes[which, 1] + boxes[which, 3] / 2
    top = np.clip(middle - half + rng.integers(-1, 2, len(x)), 0, height - 2).astype(np.int64)
    bottom = np.clip(middle + half + rng.integers(-1, 2, len(x)), top + 1, height - 1).astype(np.int64)
    return Runs(height, width, np.stack([x * height + top, x * height + bottom], axis=1), begins.astype(np.int64))


if __name__ == "__main__":
    main()
