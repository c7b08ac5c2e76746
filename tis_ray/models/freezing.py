"""Parts of a detector that learn nothing more, as in a second training of its heads (LVIS 2020).

Their weights stay, and so do the statistics of their norms and whatever else training changes: they remain in
evaluation when the detector goes over to training. Only the proposal network must still choose as many regions as
training asks for. As `activation_checkpointing` does, a frozen part gets a subclass of its own class made for it.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from tis_ray.errors import ConfigError
from tis_ray.models.detector import Detector


def freeze(detector: Detector, parts: Iterable[str]) -> None:
    """Freeze `backbone`, `neck`, `rpn`, `box` or `mask`; changes the detector in place, for good.

    What box and mask heads share between RoI pool and head is frozen with `box`. Raises `ConfigError` for `mask` where
    there is none.
    """
    for part in parts:
        for module in _modules(detector, part):
            module.requires_grad_(False).eval()
            module.__class__ = _frozen(type(module), proposes=part == "rpn")


def _modules(detector: Detector, part: str) -> tuple[nn.Module, ...]:
    heads = detector.roi_heads
    if part == "mask" and heads.mask_branch is None:
        raise ConfigError("schedule.frozen: expected parts of the detector; got mask, and it has no mask section")
    return {
        "backbone": (detector.backbone,),
        "neck": (detector.neck,),
        "rpn": (detector.rpn,),
        "box": (heads.stages, heads.shared),
        "mask": (heads.mask_branch,),
    }[part]


@cache
def _frozen(base: type[nn.Module], *, proposes: bool) -> type[nn.Module]:
    """A subclass of `base` that stays in evaluation; of a proposal network, one that still works for training."""

    def train(self: nn.Module, mode: bool = True) -> nn.Module:  # noqa: ARG001  whatever it is
        return base.train(self, False)

    def forward(self: Any, batch: Any, features: Any, targets: Any = None) -> tuple[list[Tensor], dict[str, Tensor]]:
        if targets is None:
            return cast(tuple[list[Tensor], dict[str, Tensor]], base.forward(self, batch, features))
        with torch.no_grad():
            levels = self.levels(batch, list(features.values()))
        return self.best_in_training(levels, batch.image_sizes), {}

    methods = {"train": train, "forward": forward} if proposes else {"train": train}
    return type(f"Frozen{base.__name__}", (base,), methods | {"__doc__": base.__doc__})
