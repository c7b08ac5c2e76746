"""What one training step holds in memory, without a device: forward, backward and what the optimiser keeps."""

from collections.abc import Iterable

import torch
from torch.utils.module_tracker import ModuleTracker

from tis_ray.config import DetectorSection
from tis_ray.inspection.dry_run import Peak, fake_detector, fake_mode, frames, live_bytes
from tis_ray.inspection.worst_case import WorstCase, precision
from tis_ray.instances import Categories
from tis_ray.models.activation_checkpointing import checkpoint_activations
from tis_ray.models.detector import SIZE_DIVISOR
from tis_ray.models.freezing import freeze
from tis_ray.models.mask_targets import PackedCrops
from tis_ray.models.targets import Target
from tis_ray.views import SizeHW

# Without a GPU PyTorch runs no backward pass of tensors that say they lie on one.
_DEVICE = "cpu"
_OBJECTS = 30


def training_peak(
    section: DetectorSection,
    categories: Categories,
    size_hw: SizeHW,
    *,
    num_frames: int,
    bfloat16: bool,
    recompute: bool,
    frozen: Iterable[str] = (),
    size_bucket_px: int = SIZE_DIVISOR,
) -> Peak:
    """Memory of a step on `num_frames` frames of this size, gradients with it; the weights apart.

    As many regions are positive as may be. `recompute` stands for `resources.activation_checkpointing`, `frozen` for
    `schedule.frozen`, `size_bucket_px` for that of `resources`. The part is `backward` where the peak comes after the
    losses.
    """
    fake = fake_mode()
    detector = fake_detector(section, categories, fake, device=_DEVICE).train()
    detector.size_bucket_px = size_bucket_px
    freeze(detector, frozen)
    if recompute:
        checkpoint_activations(detector)
    with fake, ModuleTracker() as tracker:
        live = live_bytes(tracker)
        with WorstCase(number=detector.roi_heads.max_positives), live:
            with precision(_DEVICE, bfloat16=bfloat16):
                targets = [_target(size_hw, with_stuff=section.stuff is not None)] * num_frames
                losses = detector(frames(size_hw, num_frames, _DEVICE), targets)
                total = torch.stack(list(losses.values())).sum()
            forward = live.peak
            total.backward()
    return Peak(live.peak, "backward" if live.peak > forward else live.peak_at)


def _target(size_hw: SizeHW, *, with_stuff: bool) -> Target:
    """Some objects; their masks hold no pixel, since what is read of them is small and not told by shapes."""
    places = torch.zeros(_OBJECTS, dtype=torch.int64, device=_DEVICE)
    pixels = torch.zeros(0, dtype=torch.uint8, device=_DEVICE)
    return {
        "boxes": torch.zeros(_OBJECTS, 4, device=_DEVICE),
        "labels": places,
        "masks": PackedCrops(pixels, places, places[:, None].expand(-1, 4), places, size_hw),
        "ignore": None,
        "stuff": torch.zeros(size_hw, dtype=torch.uint8, device=_DEVICE) if with_stuff else None,
        "unlabelled": torch.zeros(0, 4, device=_DEVICE),
        "unverified": None,
    }
