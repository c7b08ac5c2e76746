"""A detector run without a device: shapes go through it as pictures would, and nothing is computed or allocated.

Its tensors say that they lie on a GPU, so that every choice falls as it does there, mixed precision too.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker

from tis_ray.config import DetectorSection
from tis_ray.inspection import formulas
from tis_ray.inspection.live import LiveBytes
from tis_ray.inspection.worst_case import WorstCase, precision
from tis_ray.instances import Categories
from tis_ray.models.assembly import build_detector, without_weights
from tis_ray.models.detector import Detector
from tis_ray.views import SizeHW

# Parts by their modules' names in a detector; an operation belongs to the last one that is at work.
PARTS = {
    "backbone": "backbone",
    "neck": "neck",
    "rpn": "rpn",
    "box": "roi_heads",
    "mask": "roi_heads.mask_branch",
    "stuff": "stuff",
}
AT_TEST = tuple(part for part in PARTS if part != "stuff")  # those that a detection is made by


@dataclass(frozen=True, slots=True)
class Peak:
    """The most bytes alive at once, the weights apart, and the part of the detector that is at work then."""

    num_bytes: int
    part: str


class DryRun:
    """A detector of fake weights, to be asked what a forward costs on a GPU, or on the CPU."""

    def __init__(self, section: DetectorSection, categories: Categories, *, device: str = "cuda") -> None:
        self._fake = fake_mode()
        self._device = device
        self.detector = fake_detector(section, categories, self._fake, device=device).eval()

    def flops(self, size_hw: SizeHW) -> dict[str, int]:
        """Floating point operations of each part on one frame of this size; a multiply-add counts as two."""
        counter = FlopCounterMode(display=False, custom_mapping=_flop_formulas(self.detector))
        with self._fake, torch.no_grad(), WorstCase(), counter:
            self.detector(frames(size_hw, 1, self._device))
        root = type(self.detector).__name__
        sums = {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}
        found = {part: sums.get(f"{root}.{PARTS[part]}", 0) for part in AT_TEST}
        return found | {"box": found["box"] - found["mask"]}  # the mask branch stands inside what finds boxes

    def peak(self, size_hw: SizeHW, *, num_frames: int = 1, bfloat16: bool = False) -> Peak:
        """Memory of one forward of `num_frames` frames of this size, in float32 or mixed precision as on a GPU."""
        with ModuleTracker() as tracker:
            live = live_bytes(tracker)
            with self._fake, torch.no_grad(), precision(self._device, bfloat16=bfloat16), WorstCase(), live:
                self.detector(frames(size_hw, num_frames, self._device))
        return Peak(live.peak, live.peak_at)


def fake_mode() -> FakeTensorMode:
    """Tensors without values; those that a part keeps on the CPU whatever the device, as anchors, may join in."""
    return FakeTensorMode(allow_non_fake_inputs=True)


def fake_detector(section: DetectorSection, categories: Categories, fake: FakeTensorMode, *, device: str) -> Detector:
    """The detector with fake weights that say they lie on `device`.

    It is put together as when a recipe is checked, and only then made fake: networks that look at values meanwhile,
    as some initialisations do, can be built on no device but not of fake tensors.
    """
    with torch.device("meta"):
        detector = build_detector(without_weights(section), categories)
    with fake:
        return detector.to_empty(device=device)


def frames(size_hw: SizeHW, count: int, device: str) -> list[Tensor]:
    """What a detector is called with."""
    return [torch.empty((3, *size_hw), dtype=torch.uint8, device=device) for _ in range(count)]


def live_bytes(tracker: ModuleTracker) -> LiveBytes:
    """A count of live bytes that knows torchvision's kernels and tells the part at work at the peak."""
    workspaces = {
        formulas.ROI_ALIGN: formulas.roi_align_workspace,
        formulas.DEFORM_CONV: formulas.deform_conv_workspace,
    }
    return LiveBytes(workspaces=workspaces, where=lambda: part_of(tracker.parents))


def part_of(modules: set[str]) -> str:
    """The part at work while these modules are, by `ModuleTracker`'s names for them; `input` before the first."""
    names = {name.partition(".")[2] for name in modules}
    at_work = [
        part for part, module in PARTS.items() if any(name == module or name.startswith(f"{module}.") for name in names)
    ]
    return at_work[-1] if at_work else "input"


def _flop_formulas(detector: nn.Module) -> dict[Any, Any]:
    levels = detector.neck.roi_levels

    def pooled_once(*inputs: Any, **keywords: Any) -> int:
        """A region is looked for on every level; all but its own have nothing to read there."""
        return formulas.roi_align_flops(*inputs, **keywords) // levels

    sums = dict.fromkeys(formulas.WEIGHTED_SUMS, formulas.weighted_sum_flops)
    return {formulas.ROI_ALIGN: pooled_once, formulas.DEFORM_CONV: formulas.deform_conv_flops, **sums}
