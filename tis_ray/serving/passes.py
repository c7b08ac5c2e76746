"""What a view server's model does for the calls of both passes, in the one thread that owns it."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tis_ray.fusion.two_pass import Plan
from tis_ray.inference.asked import Asked, NotWantedError
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks
from tis_ray.ops.boxes import Boxes
from tis_ray.serving.messages import Kept
from tis_ray.views import SizeHW, View


class Memory(Protocol):
    """What a predictor keeps of images in between two passes, by key."""

    def holds(self, key: str) -> bool: ...

    def forget(self, key: str) -> None: ...

    def drop_old(self) -> None: ...


class Predicts(Protocol):
    """What a view server needs of a predictor: the instances of each view, the masks of given boxes, both in the image
    frame, and a word on its device: `check_device` raises unless it still computes.

    `predict_together` and `remember_together` are for pictures of one size, of which those that are no longer wanted
    before one of the forwards get None and False; `predict_masks` raises `NotWantedError` then. `pictures_at_once` says
    how many of a size are worth giving together.
    """

    @property
    def memory(self) -> Memory: ...

    def predict(self, image: NDArray[np.uint8], views: Sequence[View]) -> list[Instances]: ...

    def predict_together(
        self, asked: Sequence[Asked], views: Sequence[View], *, masks: bool = True
    ) -> list[list[Instances] | None]: ...

    def pictures_at_once(self, image_hw: SizeHW, views: Sequence[View]) -> int: ...

    def remember_together(self, asked: Sequence[Asked], views: Sequence[View]) -> list[bool]: ...

    def predict_masks(
        self,
        image: NDArray[np.uint8],
        boxes: Boxes,
        labels: NDArray[np.int32],
        views: Sequence[View],
        *,
        recall: str | None = None,
        wanted: Callable[[], bool] = ...,
    ) -> list[BoxMasks]: ...

    def warm_up(self, sizes_hw: Sequence[SizeHW], views: Sequence[View]) -> None: ...

    def check_device(self) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class First:
    """A first pass over `frame` uint8 (H, W, 3): what `plan` asks for; what is kept of it is kept under `key`."""

    frame: NDArray[np.uint8]
    plan: Plan
    key: str

    @property
    def kind(self) -> Hashable:
        """Equal for those that may share a forward: of one size, and asked for the same."""
        return self.frame.shape, self.plan


@dataclass(frozen=True, slots=True, eq=False)
class Second:
    """A second pass over `frame`: masks of boxes float32 (N, 4) with labels int32 (N,), from what is kept as `key`."""

    frame: NDArray[np.uint8]
    boxes: Boxes
    labels: NDArray[np.int32]
    key: str


Wanted = Callable[[], bool]
Looked = tuple[list[Instances], Kept | None]  # what a first pass found, and what was kept
Segmented = tuple[list[BoxMasks], bool]  # each view's masks, and whether the features were still there


class Passes:
    """Both passes over `predictor`; `replica` is what this one is called by those who want it to recall a picture."""

    def __init__(self, predictor: Predicts, views: Sequence[View], replica: str) -> None:
        self._predictor = predictor
        self._views = tuple(views)
        self._replica = replica

    def room(self, work: First | Second) -> int:
        """How many of its kind are worth taking together."""
        if isinstance(work, Second):
            return 1
        height, width = work.frame.shape[:2]
        return self._predictor.pictures_at_once((height, width), self._views)

    def first(self, works: Sequence[First], wanted: Sequence[Wanted]) -> list[Looked | None]:
        """Each picture's answer, all of one kind; None for one that is not `wanted` any more."""
        plan = works[0].plan
        asked = [
            Asked(work.frame, work.key if plan.masks else None, one) for work, one in zip(works, wanted, strict=True)
        ]
        found: Sequence[list[Instances] | None]
        if plan.boxes:
            found = self._predictor.predict_together(asked, self._views, masks=plan.own_masks)
        else:
            found = [[] if done else None for done in self._predictor.remember_together(asked, self._views)]
        return [
            None if one is None else (one, self._kept(work.key) if plan.masks else None)
            for work, one in zip(works, found, strict=True)
        ]

    def second(self, work: Second, wanted: Wanted) -> Segmented | None:
        """Each view's masks, and what was kept of the picture is let go of; None if it is not `wanted` any more."""
        memory = self._predictor.memory
        recalled = memory.holds(work.key)
        try:
            masks = self._predictor.predict_masks(
                work.frame, work.boxes, work.labels, self._views, recall=work.key, wanted=wanted
            )
        except NotWantedError:
            return None
        memory.forget(work.key)
        return masks, recalled

    def _kept(self, key: str) -> Kept:
        return Kept(key, self._replica if self._predictor.memory.holds(key) else "")
