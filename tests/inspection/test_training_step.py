"""What is foretold of a training step is what a real one needs."""

import pytest
import torch
from torch.utils.module_tracker import ModuleTracker

from tests.tiny import CATEGORIES, TINY_DETECTOR
from tis_ray.config import DetectorSection, StuffSection
from tis_ray.inspection.dry_run import DryRun, live_bytes
from tis_ray.inspection.training_step import training_peak
from tis_ray.models.activation_checkpointing import checkpoint_activations
from tis_ray.models.assembly import build_detector
from tis_ray.models.freezing import freeze
from tis_ray.models.mask_targets import PackedCrops
from tis_ray.models.targets import Target

SECTION = DetectorSection.model_validate(TINY_DETECTOR)
WITH_STUFF = SECTION.model_copy(update={"stuff": StuffSection(num_classes=200, channels=64)})
SIZE_HW = (256, 320)


def target_of(count: int) -> Target:
    corners = torch.rand(count, 2) * 150
    boxes = torch.cat([corners, corners + torch.rand(count, 2) * 60 + 10], dim=1)
    frames = torch.cat([corners.long(), torch.full((count, 2), 20)], dim=1)
    pixels, areas = torch.ones(count * 400, dtype=torch.uint8), torch.full((count,), 400)
    masks = PackedCrops(pixels, torch.arange(count) * 400, frames, areas, SIZE_HW)
    labels, stuff = torch.randint(1, 4, (count,)), torch.randint(0, 5, SIZE_HW).to(torch.uint8)
    return {
        "boxes": boxes,
        "labels": labels,
        "masks": masks,
        "ignore": None,
        "stuff": stuff,
        "unlabelled": torch.zeros((0, 4)),
        "unverified": None,
    }


# A recomputation leaves cycles of references, which Python's collector finds when it does. The branch for stuff comes
# last, beside examples and positive regions of which as many are foretold as may be.
@pytest.mark.parametrize(
    ("section", "recompute", "frozen", "bucket_px", "tolerance"),
    [
        (SECTION, False, (), 32, 0.002),
        (SECTION, True, (), 32, 0.1),
        (WITH_STUFF, False, (), 32, 0.02),
        (SECTION, False, ("backbone", "neck", "rpn"), 32, 0.02),
        (SECTION, False, (), 256, 0.002),
    ],
    ids=["plain", "recomputed", "stuff", "frozen", "size buckets"],
)
def test_memory_is_that_of_a_real_step(
    section: DetectorSection, recompute: bool, frozen: tuple[str, ...], bucket_px: int, tolerance: float
) -> None:
    torch.manual_seed(0)
    detector = build_detector(section, CATEGORIES).train()
    detector.size_bucket_px = bucket_px
    freeze(detector, frozen)
    if recompute:
        checkpoint_activations(detector)
    images = [torch.randint(0, 256, (3, *SIZE_HW), dtype=torch.uint8) for _ in range(2)]
    targets = [target_of(30) for _ in images]
    with ModuleTracker() as tracker:
        live = live_bytes(tracker)
        with live:
            losses = detector([image.clone() for image in images], targets)
            torch.stack(list(losses.values())).sum().backward()
    options = {"recompute": recompute, "frozen": frozen, "size_bucket_px": bucket_px}
    foretold = training_peak(section, CATEGORIES, SIZE_HW, num_frames=2, bfloat16=False, **options)
    assert foretold.num_bytes == pytest.approx(live.peak, rel=tolerance)


def test_recomputing_saves_memory() -> None:
    kept, recomputed = (
        training_peak(SECTION, CATEGORIES, (512, 512), num_frames=1, bfloat16=False, recompute=recompute).num_bytes
        for recompute in (False, True)
    )
    assert recomputed < 0.8 * kept


def test_a_branch_for_stuff_takes_memory_in_training_alone() -> None:
    plain, taught = (
        training_peak(section, CATEGORIES, SIZE_HW, num_frames=2, bfloat16=False, recompute=False)
        for section in (SECTION, WITH_STUFF)
    )
    assert plain.num_bytes < taught.num_bytes
    tested = [DryRun(section, CATEGORIES).peak(SIZE_HW).num_bytes for section in (SECTION, WITH_STUFF)]
    assert tested[0] == pytest.approx(tested[1], rel=1e-3)  # the first one lays the anchors of a cell
