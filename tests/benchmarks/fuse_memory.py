"""Peak memory and time of fusing results files: 4 files of 5000 images with 100 boxes and masks each.

    python -m tests.benchmarks.fuse_memory [--images 5000] [--detections 100] [--files 4] [--fusion tis]

The files are made first, in a temporary folder, of images of 640x480 px: every file has found the same objects, 8 to
300 px large, whose outlines are uneven ellipses, as those of predicted masks are. The fusion runs in a process of its
own; its peak of resident memory is that of the whole process, libraries included.
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from tests.benchmarks.resident import resident_mb
from tis_ray.formats.coco_results import ResultsWriter
from tis_ray.ops import rle
from tis_ray.ops.runs import Runs

HEIGHT, WIDTH, CLASSES = 480, 640, 80


def main() -> None:
    """Make the files, fuse them in a fresh process, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100)
    parser.add_argument("--files", type=int, default=4)
    parser.add_argument("--fusion", default="tis")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = make_files(Path(folder), options.images, options.detections, options.files)
        size_mb = sum(path.stat().st_size for path in paths) / 1e6
        print(f"{len(paths)} files, {size_mb:.0f} MB", file=sys.stderr)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            row = pool.apply(measure, (Path(folder), paths, options.fusion))
    print(f"{'images':>8} {'results in':>11} {'files, MB':>10} {'results out':>12} {'seconds':>9} {'peak RSS, MB':>13}")
    print(
        f"{options.images:8} {row['read']:11} {size_mb:10.0f} {row['written']:12} "
        f"{row['seconds']:9.1f} {row['peak_mb']:13.0f}"
    )


def measure(folder: Path, paths: list[Path], fusion: str) -> dict[str, float]:
    """Results read and written, seconds, and the peak resident memory of this process in MB."""
    from tis_ray.results import fuse_files, open_files

    start = time.perf_counter()
    summary = fuse_files(open_files(paths, [f"fusion={fusion}"]), folder / "data.json", folder / "fused.json")
    return {
        "read": sum(summary.num_read.values()),
        "written": summary.num_written,
        "seconds": time.perf_counter() - start,
        "peak_mb": resident_mb(),
    }


def make_files(folder: Path, num_images: int, num_detections: int, num_files: int) -> list[Path]:
    """`data.json` and the results files in `folder`; the same on every machine."""
    images = [{"id": i + 1, "height": HEIGHT, "width": WIDTH} for i in range(num_images)]
    categories = [{"id": i + 1, "name": f"class {i}"} for i in range(CLASSES)]
    (folder / "data.json").write_bytes(orjson.dumps({"images": images, "categories": categories}))
    paths = [folder / f"model{number}.json" for number in range(num_files)]
    for number, path in enumerate(paths):
        with ResultsWriter(path) as writer:
            for image in images:
                scene = np.random.default_rng(image["id"])  # the same objects for every file
                objects, classes = _objects(scene, num_detections)
                writer.write(_results(image["id"], objects, classes, np.random.default_rng([image["id"], number])))
    return paths


def _objects(rng: np.random.Generator, count: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    sides = np.exp(rng.uniform(np.log(8), np.log(300), (count, 1))) * np.exp(rng.normal(0, 0.3, (count, 2)))
    wh = np.minimum(sides, [WIDTH / 2, HEIGHT / 2])
    corner = rng.random((count, 2)) * ([WIDTH, HEIGHT] - wh)
    return np.concatenate([corner, wh], axis=1), rng.integers(1, CLASSES + 1, count)


def _results(image_id: int, objects: NDArray, classes: NDArray, rng: np.random.Generator) -> list[dict]:
    jitter = rng.normal(0, 0.04, objects.shape) * np.tile(objects[:, 2:], 2)
    boxes = objects + jitter
    boxes[:, :2] = np.clip(boxes[:, :2], 0, [WIDTH - 8, HEIGHT - 8])
    boxes[:, 2:] = np.clip(boxes[:, 2:], 4, [WIDTH, HEIGHT] - boxes[:, :2])
    labels = np.where(rng.random(len(objects)) < 0.1, rng.integers(1, CLASSES + 1, len(objects)), classes)
    scores = np.round(rng.random(len(objects)), 4)
    masks = rle.from_runs(_ellipses(boxes, rng))
    rows = zip(labels.tolist(), np.round(boxes, 2).tolist(), scores.tolist(), masks, strict=True)
    return [
        {"image_id": image_id, "category_id": label, "bbox": bbox, "score": score, "segmentation": mask}
        for label, bbox, score, mask in rows
    ]


def _ellipses(boxes: NDArray[np.float64], rng: np.random.Generator) -> Runs:
    """Ellipses in boxes (N, 4) xywh whose upper and lower edges waver by a pixel from column to column."""
    first = boxes[:, 0].astype(np.int64)
    columns = np.minimum((boxes[:, 0] + boxes[:, 2]).astype(np.int64), WIDTH) - first
    which = np.repeat(np.arange(len(boxes)), columns)
    begins = np.concatenate([[0], np.cumsum(columns)])
    x = np.arange(begins[-1]) - begins[which] + first[which]
    across = np.clip((x + 0.5 - boxes[which, 0]) / boxes[which, 2] * 2 - 1, -1, 1)
    half = np.sqrt(1 - across**2) * boxes[which, 3] / 2
    middle = boxes[which, 1] + boxes[which, 3] / 2
    top = np.clip(middle - half + rng.integers(-1, 2, len(x)), 0, HEIGHT - 2).astype(np.int64)
    bottom = np.clip(middle + half + rng.integers(-1, 2, len(x)), top + 1, HEIGHT - 1).astype(np.int64)
    spans = np.stack([x * HEIGHT + top, x * HEIGHT + bottom], axis=1)
    return Runs(HEIGHT, WIDTH, spans, begins.astype(np.int64))


if __name__ == "__main__":
    main()
