"""How well masks of thin objects in large boxes get with and without area ratios, where everything else is the same.

    python -m tests.benchmarks.thin_objects

Nothing but backbone, neck and mask branch is trained, from nothing, on boxes about the objects as proposals lie. Masks
are then predicted in the true boxes of other scenes and held against the true ones pixel by pixel, so that no box and
no score has a say. On one thread.
"""

import argparse
import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torch import Tensor

from tis_ray.config import DetectorSection, parse
from tis_ray.data.dataset import TrainingSet, read_image
from tis_ray.data.survey import survey
from tis_ray.formats import coco
from tis_ray.masks import BoxMasks
from tis_ray.models.assembly import build_detector
from tis_ray.models.detector import Detector
from tis_ray.models.positives import Regions, positives
from tis_ray.models.targets import Target, to_targets

BETAS = (None, 0.5, 1.0)
SHORT_EDGE, WIDTH = 384, 32
AROUND, SHIFT = 4, 0.1  # boxes for each object, and how far their corners are off, in shares of its sides
PER_STEP, RATE = 2, 2e-3
LARGE_PX, THIN = 112, 0.2  # by the usual rule such boxes are pooled from coarser levels than the finest


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
    """Train and measure for every seed and beta; print a table."""
    parser = argparse.ArgumentParser(description="Masks of thin objects with and without area ratios.")
    parser.add_argument("--out", type=Path, default=Path("runs/thin_objects"), help="folder for the scenes")
    parser.add_argument("--images", type=int, default=400, help="scenes to draw, a quarter of them to measure on")
    parser.add_argument("--steps", type=int, default=800, help=f"training steps, of {PER_STEP} images each")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    truths = scenes(asked.out, asked.images)
    found: dict[float | None, list[Fit]] = {beta: [] for beta in BETAS}
    for seed in asked.seeds:
        for beta in BETAS:
            found[beta].append(fit(trained(truths[0], beta, seed=seed, steps=asked.steps), truths[1]))
            print(f"seed {seed}, {_words(beta)}: {_line([found[beta][-1]])}", flush=True)
    for beta in BETAS:
        print(f"all seeds, {_words(beta)}: {_line(found[beta])}")


def scenes(out: Path, num_images: int) -> tuple[coco.CocoDataset, coco.CocoDataset]:
    """Scenes of thin things to train on and to measure on."""
    from tis_ray.data.scenes import write_scenes

    drawn = write_scenes(out, num_images=num_images, preset="thin", processes=1)
    return coco.read(drawn.train_json), coco.read(drawn.val_json)


def trained(truth: coco.CocoDataset, beta: float | None, *, seed: int, steps: int) -> Detector:
    """A detector whose mask branch has learnt from boxes about the objects."""
    categories, _ = survey(truth, scales=[SHORT_EDGE], max_long_edge=None)
    torch.manual_seed(seed)
    detector = build_detector(_section(beta), categories).train()
    branch = detector.roi_heads.mask_branch
    learnt = [*detector.backbone.parameters(), *detector.neck.parameters(), *branch.parameters()]
    optimizer = torch.optim.AdamW(learnt, RATE, weight_decay=1e-4)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(step / 50, 1) * _falling(step / steps))
    random = torch.Generator().manual_seed(seed)
    for images, targets in _batches(truth, seed=seed, steps=steps):
        looked = detector.look(images)
        sizes_hw = looked.batch.image_sizes
        regions = [_around(target, random, size) for target, size in zip(targets, sizes_hw, strict=True)]
        found = positives(regions, targets, size=branch.size, most=64)
        loss = branch.losses(looked.features, found, sizes_hw, shared=detector.roi_heads.shared)["loss_mask"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learnt, 10)
        optimizer.step()
        rate.step()
    return detector


@torch.inference_mode()
def fit(detector: Detector, truth: coco.CocoDataset) -> Fit:
    """How well the masks in the true boxes fit, of every object."""
    rows = []
    detector.eval()
    for record in truth.images:
        objects = truth.annotations(record.id)
        looked = detector.look([read_image(record)])  # scenes have the network's size
        boxes, labels = torch.from_numpy(objects.boxes), torch.from_numpy(objects.labels).long() + 1
        (masks,) = detector.segment(looked.features, [boxes], [labels], looked.batch.image_sizes)
        patches = BoxMasks(objects.boxes, masks.probs.numpy().astype(np.float16))
        said, true = (masks.to_rle(record.height, record.width) for masks in (patches, objects.masks))
        ious = [coco_mask.iou([one], [other], [0])[0][0] for one, other in zip(said, true, strict=True)]
        areas = np.prod(objects.boxes[:, 2:] - objects.boxes[:, :2], axis=1, dtype=np.float64)
        rows.append((np.array(ious), np.sqrt(areas), objects.masks.areas() / areas))
    return Fit(*(np.concatenate(column) for column in zip(*rows, strict=True)))


# --------------------------------------------------------------------------------------------------------- Parts


def _section(beta: float | None) -> DetectorSection:
    mask: dict[str, Any] = {"head": {"convs": {"channels": [WIDTH] * 2}}}
    parts = {
        "backbone": "shufflenet_v2_x0_5",
        "neck": {"fpn": {"channels": WIDTH}},
        "box": {"head": {"mlp": {"hidden": 8}}},
        "mask": mask | ({} if beta is None else {"area_ratio": {"beta": beta}}),
    }
    return parse(DetectorSection, parts, source="thin objects")


def _batches(truth: coco.CocoDataset, *, seed: int, steps: int) -> Iterator[tuple[list[Tensor], list[Target]]]:
    samples = TrainingSet(truth, scales=[SHORT_EDGE], max_long_edge=None, flip_probability=0.5, seed=seed)
    order = np.random.default_rng(seed)
    for step in range(steps):
        samples.set_epoch(step * PER_STEP // len(samples))
        chosen = [samples[int(i)] for i in order.integers(len(samples), size=PER_STEP)]
        sizes_hw = [(one.image.shape[1], one.image.shape[2]) for one in chosen]
        targets = to_targets([one.annotations for one in chosen], sizes_hw, torch.device("cpu"))
        yield [one.image for one in chosen], targets


def _around(target: Target, random: torch.Generator, size_hw: tuple[int, int]) -> Regions:
    """Boxes about an image's objects, and the objects' own."""
    matched = torch.arange(len(target["boxes"])).repeat(AROUND)
    boxes = target["boxes"][matched]
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    shifts = (torch.rand(boxes.shape, generator=random) * 2 - 1) * SHIFT * sides
    shifts[: len(target["boxes"])] = 0
    corners = torch.tensor([*size_hw[::-1], *size_hw[::-1]])
    return Regions((boxes + shifts).clamp(min=0).minimum(corners), matched, target["labels"][matched])


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
