"""How long scoring takes beside pycocotools and faster-coco-eval: boxes of 500 images with 60 detections each.

    python -m tests.benchmarks.evaluation [--rounds 3] [--images 500]

All three score the same objects and detections, in this process, in turn, at 7 and at 1203 classes; each starts from
lists of dicts in memory, as they come out of JSON. Their APs must be the same to 1e-9 before anything is timed. The
table is written into `docs/benchmarks.md`.
"""

import argparse
import contextlib
import copy
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval import COCO as FastCOCO
from faster_coco_eval import COCOeval_faster
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.benchmarks.pages import DOCS, machine, write
from tests.benchmarks.timing import Timing, several
from tis_ray.evaluation.coco import evaluate
from tis_ray.formats import coco

CLASSES = (7, 1203)
DETECTIONS, OBJECTS = 60, 20
SIDE_PX = 1000
PEERS = ("pycocotools", "faster-coco-eval")

Entries = list[dict[str, Any]]


def main() -> None:
    """Print the table, and write it into `docs/benchmarks.md`."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=500)
    asked = parser.parse_args()
    lead = machine("pycocotools", "faster-coco-eval", "numba", "numpy")
    text = f"{table(asked.images, asked.rounds)}\n\n{lead}"
    print(text)
    write(DOCS / "benchmarks.md", "evaluation", text)


def table(num_images: int, rounds: int, classes: tuple[int, ...] = CLASSES) -> str:
    """Seconds and ratios to pycocotools, the medians of `rounds` calls of each in turn after a first one."""
    lines = [
        f"| classes | {' | '.join(f'{peer}, s' for peer in PEERS)} | tis-ray, s | faster-coco-eval | tis-ray |",
        "|---|---|---|---|---|---|",
    ]
    for count in classes:
        seconds = measure(num_images, count, rounds)
        slowest, peer, own = (seconds[name].median for name in (*PEERS, "tis-ray"))
        cells = [f"{value:.2f}" for value in (slowest, peer, own)] + [
            f"{slowest / value:.1f}x" for value in (peer, own)
        ]
        lines.append(f"| {count} | {' | '.join(cells)} |")
    return "\n".join(lines)


def measure(num_images: int, num_classes: int, rounds: int) -> dict[str, Timing]:
    """The times of the peers and of tis-ray by name. Raises `ValueError` where their APs differ."""
    content, results = scene(num_images, num_classes)
    with tempfile.TemporaryDirectory() as folder:
        dataset = coco.of_content(Path(folder) / "instances.json", copy.deepcopy(content))
    ways: dict[str, Callable[[], float]] = {
        "pycocotools": lambda: _peer(COCO, COCOeval, content, results),
        "faster-coco-eval": lambda: _peer(FastCOCO, COCOeval_faster, content, results),
        "tis-ray": lambda: evaluate(dataset, results, kinds=("bbox",), metric="coco")["bbox"].AP,
    }
    scores = {name: way() for name, way in ways.items()}
    if max(scores.values()) - min(scores.values()) > 1e-9:
        raise ValueError(f"expected the same AP of all; got {scores}")
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            seconds[name] += several(way, 1)
    return {name: Timing.of(values) for name, values in seconds.items()}


def scene(num_images: int, num_classes: int) -> tuple[dict[str, Any], Entries]:
    """Objects of many sizes, each found about twice, some as another class, and detections of nothing."""
    rng = np.random.default_rng(0)
    images = [{"id": i + 1, "file_name": f"{i}.jpg", "height": SIDE_PX, "width": SIDE_PX} for i in range(num_images)]
    categories = [{"id": k + 1, "name": str(k)} for k in range(num_classes)]
    annotations: Entries = []
    results: Entries = []
    for image in images:
        sides = np.exp(rng.uniform(np.log(6), np.log(300), (OBJECTS, 2)))
        boxes = np.concatenate([rng.uniform(0, SIDE_PX - sides), sides], axis=1)
        labels = rng.integers(1, num_classes + 1, OBJECTS)
        for box, label in zip(boxes.tolist(), labels.tolist(), strict=True):
            common = {"id": len(annotations) + 1, "image_id": image["id"], "category_id": label, "iscrowd": 0}
            annotations.append(common | {"bbox": box, "area": box[2] * box[3]})
        near = rng.integers(0, OBJECTS, DETECTIONS)
        found = boxes[near] + rng.normal(0, 0.1, (DETECTIONS, 4)) * np.tile(sides[near], 2)
        found[:, 2:] = found[:, 2:].clip(1)
        said = np.where(rng.random(DETECTIONS) < 0.3, rng.integers(1, num_classes + 1, DETECTIONS), labels[near])
        for box, label, score in zip(found.tolist(), said.tolist(), rng.random(DETECTIONS).tolist(), strict=True):
            results.append({"image_id": image["id"], "category_id": label, "bbox": box, "score": score})
    return {"images": images, "annotations": annotations, "categories": categories}, results


def _peer(structure: Any, evaluator: Any, content: dict[str, Any], results: Entries) -> float:
    """AP by pycocotools or by what has its interface; they write into what they get, hence the copies of dicts."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = structure()
        truth.dataset = content | {"annotations": [dict(one) for one in content["annotations"]]}
        truth.createIndex()
        made = evaluator(truth, truth.loadRes([dict(one) for one in results]), "bbox")
        made.evaluate()
        made.accumulate()
        made.summarize()
    return float(made.stats[0])


if __name__ == "__main__":
    main()
