"""Opening a large COCO file: pycocotools, the first start and the second, which reads what the first one kept.

    python -m tests.benchmarks.annotation_cache [IMAGES]

draws a file with as many images (by default 100 000, of 8.6 objects each, with polygons of 6 to 45 points, as in COCO)
and writes the figures into `docs/benchmarks.md`. Each way opens it in a process of its own; seconds are the CPU's.
"""

import multiprocessing
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tests.benchmarks.resident import resident_mb

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
_FIGURES = re.compile(r"(<!-- annotation cache -->\n).*?(<!-- end of annotation cache -->)", re.DOTALL)
IMAGES, PER_IMAGE = 100_000, 8.6
WIDTH, HEIGHT = 640, 480


class Measured(NamedTuple):
    """One way: CPU seconds to open, then to survey all objects; MB resident at the peak and afterwards."""

    open_s: float
    survey_s: float | None
    peak_mb: float
    after_mb: float


def main() -> None:
    """Measure, print, and put the figures between the marks of the page."""
    text = figures(int(sys.argv[1]) if len(sys.argv) > 1 else IMAGES)
    PAGE.write_text(_FIGURES.sub(lambda match: f"{match[1]}\n{text}\n\n{match[2]}", PAGE.read_text()))
    print(text)


def figures(num_images: int) -> str:
    """The table for a file of so many images."""
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["TIS_RAY_CACHE"] = f"{scratch}/cache"
        path = Path(scratch) / "instances.json"
        count = write(path, num_images)
        measured = {
            "pycocotools `COCO(file)`": _apart(theirs, path),
            "tis-ray, first start": _apart(ours, path),
            "tis-ray, second start": _apart(ours, path),
        }
        (kept,) = Path(scratch, "cache").glob("*.parquet")
        sizes_mb = path.stat().st_size / 1e6, kept.stat().st_size / 1e6
    lines = [
        f"{num_images} images, {count} annotations; JSON {sizes_mb[0]:.0f} MB, cache {sizes_mb[1]:.0f} MB.",
        "",
        "| way | open, s | survey of all objects, s | peak, MB | afterwards, MB |",
        "|---|---|---|---|---|",
    ]
    for way, (open_s, survey_s, peak_mb, after_mb) in measured.items():
        surveyed = "-" if survey_s is None else f"{survey_s:.2f}"
        lines.append(f"| {way} | {open_s:.1f} | {surveyed} | {peak_mb:.0f} | {after_mb:.0f} |")
    return "\n".join(lines)


def theirs(path: Path) -> tuple[float, float | None]:
    """As pycocotools opens a file, unchecked."""
    from pycocotools.coco import COCO

    start = time.process_time()
    _KEPT.append(COCO(str(path)))
    return time.process_time() - start, None


def ours(path: Path) -> tuple[float, float | None]:
    """As a training run opens its data, checked, and how long its survey takes."""
    from tis_ray.data.survey import survey
    from tis_ray.formats import annotation_cache

    start = time.process_time()
    truth = annotation_cache.read(path, path.parent)
    opened = time.process_time()
    survey(truth, scales=(640, 800), max_long_edge=1333)
    _KEPT.append(truth)
    return opened - start, time.process_time() - opened


def write(path: Path, num_images: int) -> int:
    """Write a file of so many images and return the number of its annotations, of which every 120th is a crowd."""
    chance = np.random.default_rng(0)
    count = int(num_images * PER_IMAGE)
    images, classes = chance.integers(1, num_images + 1, count).tolist(), chance.integers(1, 81, count).tolist()
    sizes = chance.uniform(8, 200, (count, 2))
    corners = chance.uniform(0, (WIDTH, HEIGHT) - sizes)
    points = chance.integers(6, 46, count).tolist()
    with path.open("w") as file:
        file.write('{"images":[')
        file.write(",".join(_image(i) for i in range(1, num_images + 1)))
        file.write('],"annotations":[')
        for i in range(count):
            outline = _crowd() if i % 120 == 0 else _polygon(corners[i], sizes[i], points[i])
            x, y, w, h = (round(float(value), 2) for value in (*corners[i], *sizes[i]))
            file.write("," if i else "")
            file.write(
                f'{{"segmentation":{outline},"area":{w * h * 0.78:.4f},"iscrowd":{int(i % 120 == 0)},'
                f'"image_id":{images[i]},"bbox":[{x},{y},{w},{h}],"category_id":{classes[i]},"id":{i + 1}}}'
            )
        names = ",".join(f'{{"supercategory":"thing","id":{i},"name":"class {i}"}}' for i in range(1, 81))
        file.write(f'],"categories":[{names}]}}')
    return count


_KEPT: list[Any] = []


def _image(id_: int) -> str:
    address = f"http://images.cocodataset.org/train2017/{id_:012d}.jpg"
    return (
        f'{{"license":3,"file_name":"{id_:012d}.jpg","coco_url":"{address}","height":{HEIGHT},"width":{WIDTH},'
        f'"date_captured":"2013-11-14 11:18:45","id":{id_}}}'
    )


def _crowd() -> str:
    return f'{{"counts":[100,90000,{WIDTH * HEIGHT - 90100}],"size":[{HEIGHT},{WIDTH}]}}'


def _polygon(corner: Any, size: Any, num_points: int) -> str:
    turn = np.linspace(0, 2 * np.pi, num_points, endpoint=False)
    outline = corner + size / 2 * (1 + np.stack([np.cos(turn), np.sin(turn)], axis=1))
    return "[[" + ",".join(f"{value:.2f}" for value in outline.ravel().tolist()) + "]]"


def _apart(way: Callable[[Path], tuple[float, float | None]], path: Path) -> Measured:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (way, path))


def _measured(way: Callable[[Path], tuple[float, float | None]], path: Path) -> Measured:
    seconds = way(path)
    return Measured(*seconds, resident_mb(), resident_mb("VmRSS"))


if __name__ == "__main__":
    main()
