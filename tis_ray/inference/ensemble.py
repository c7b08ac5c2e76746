"""A whole ensemble in one process, without Ray: `tis_ray.load("ensemble.yaml").predict(image)`.

The same predictors, views and fusion as the service, so the same answer.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tis_ray.config import Ensemble, load_ensemble
from tis_ray.errors import InputError
from tis_ray.formats.images import open_image
from tis_ray.formats.members import ensemble_categories, ensemble_sizes, maskless_members
from tis_ray.fusion.fuse import Fuser
from tis_ray.fusion.two_pass import Merged
from tis_ray.inference.checks import check_boxes, check_image
from tis_ray.inference.feature_memory import FeatureMemory
from tis_ray.inference.predictor import Predictor
from tis_ray.instances import Categories, Instances
from tis_ray.masks import BoxMasks
from tis_ray.ops.boxes import Boxes
from tis_ray.views import View

Image = NDArray[np.uint8] | Path | str


@dataclass(frozen=True, slots=True, eq=False)
class Explained:
    """The fused instances of an image, and how they came about.

    views:   what each view found by itself or, of one that draws masks alone, the fused boxes that it has drawn
    seconds: of each view's calls, which all views of its member share
    """

    instances: Instances
    views: Mapping[View, Instances]
    seconds: Mapping[View, float]


class EnsemblePredictor:
    """Members by name, the views they are asked for, and the fusion of what they find."""

    def __init__(
        self, predictors: Mapping[str, Predictor], views: Sequence[View], fuser: Fuser, categories: Categories
    ) -> None:
        self.predictors = dict(predictors)
        self.views = tuple(sorted(views))
        self.fuser = fuser
        self.categories = categories
        self._pictures = count()

    def predict(self, image: Image) -> Instances:
        """The fused instances of an image: a file, or uint8 RGB (H, W, 3). Boxes and masks are in its frame."""
        return self.explain(image).instances

    def explain(self, image: Image, *, own_masks: bool = False) -> Explained:
        """What `predict` answers, and what each view has said to it.

        With `own_masks` views that are asked for masks of the fused boxes draw those of their own boxes as well.
        """
        pixels = _pixels(image)
        image_hw = (pixels.shape[0], pixels.shape[1])
        key = f"picture {next(self._pictures)}"
        check_image(pixels)
        timer = _Timer(self.views)
        try:
            found = self._look(pixels, remember=key, own_masks=own_masks, timer=timer)
            brought = {view: one.without_masks() if self.fuser.plan(view).masks else one for view, one in found.items()}
            merged = self.fuser.merge(brought, image_hw=image_hw, sources=self.views)
            asked = [view for view in self.views if self.fuser.plan(view).masks]
            drawn = self._ask_masks(pixels, merged, asked, recall=key, timer=timer)
            own = {
                view: replace(merged.instances, masks=masks)[masks.present]
                for view, masks in drawn.items()
                if view not in found and len(merged.instances)
            }
            said = found | own
            views = {view: said[view] for view in self.views if view in said}
            return Explained(self.fuser.finish(merged, drawn), views, timer.seconds)
        finally:
            for predictor in self.predictors.values():
                predictor.memory.forget(key)

    def predict_views(self, image: NDArray[np.uint8], *, remember: str | None = None) -> dict[View, Instances]:
        """What each view that is asked for boxes finds by itself, before fusion, for uint8 RGB (H, W, 3).

        Under the key `remember` the features of views that will be asked for masks of the fused boxes are kept.
        """
        check_image(image)
        return self._look(image, remember=remember, timer=_Timer(self.views))

    def predict_masks(self, image: Image, boxes: Boxes, labels: NDArray[np.integer]) -> BoxMasks:
        """The ensemble's masks of boxes that you bring: of each one, in their order, present where a view has one.

        boxes: float32 (N, 4) xyxy in the frame of the image, a file or uint8 RGB (H, W, 3); labels: integers (N,), as
        in `categories`. All members that predict masks and whose role is not boxes are asked, in all of their views,
        and the mask policy of the fusion has the last word. Raises `InputError` for what has another form, and where
        no member predicts masks.
        """
        pixels = _pixels(image)
        check_image(pixels)
        check_boxes(boxes, labels)
        Instances.of(boxes, np.ones(len(boxes)), labels).check_values(num_classes=len(self.categories))
        merged = self.fuser.given(boxes, labels, image_hw=(pixels.shape[0], pixels.shape[1]), sources=self.views)
        asked = [view for view in self.views if self.fuser.plan(view).own_masks or self.fuser.plan(view).masks]
        asked = [view for view in asked if self.predictors[view.member].predicts_masks]
        if not asked:
            raise InputError("members: expected one that predicts masks and whose role is not boxes; got none")
        drawn = self._ask_masks(pixels, merged, asked, recall=None, timer=_Timer(self.views))
        masks = self.fuser.finish(merged, drawn).masks
        assert isinstance(masks, BoxMasks)
        return masks

    def _look(
        self, image: NDArray[np.uint8], *, remember: str | None, timer: "_Timer", own_masks: bool = False
    ) -> dict[View, Instances]:
        found: dict[View, Instances] = {}
        for name, predictor in self.predictors.items():
            own = [view for view in self.views if view.member == name and self.fuser.plan(view).boxes]
            if own:
                plan = self.fuser.plan(own[0])
                key, masks = (remember, plan.own_masks or own_masks) if plan.masks else (None, plan.own_masks)
                with timer.of(own):
                    parts = predictor.predict(image, own, masks=masks, remember=key)
                found.update(zip(own, parts, strict=True))
        return found

    def _ask_masks(
        self, image: NDArray[np.uint8], merged: Merged, views: Sequence[View], *, recall: str | None, timer: "_Timer"
    ) -> dict[View, BoxMasks]:
        boxes, labels = merged.instances.boxes, merged.instances.labels
        found: dict[View, BoxMasks] = {}
        for name, predictor in reversed(self.predictors.items()):  # where not all is remembered, it is the last that is
            own = [view for view in views if view.member == name]
            if own:
                with timer.of(own):
                    masks = predictor.predict_masks(image, boxes, labels, own, recall=recall)
                found.update(zip(own, masks, strict=True))
        return found


class _Timer:
    """The seconds of each view's calls so far."""

    def __init__(self, views: Sequence[View]) -> None:
        self.seconds = dict.fromkeys(views, 0.0)

    @contextmanager
    def of(self, views: Sequence[View]) -> Iterator[None]:
        """Add the time of the block to these views'."""
        start = time.perf_counter()
        yield
        for view in views:
            self.seconds[view] += time.perf_counter() - start


def load(ensemble: Ensemble | Path | str, *, device: str | None = None) -> EnsemblePredictor:
    """Read an ensemble file, or the one in a checkpoint folder, and its checkpoints.

    It runs on the GPU if there is one, unless `device` says otherwise, in the precision and by the batches of the
    section `inference`; nothing is compiled, which pays for services alone. Raises `ConfigError` or `CheckpointError`
    naming what is wrong.
    """
    if not isinstance(ensemble, Ensemble):
        ensemble = load_ensemble(ensemble)
    categories = ensemble_categories(ensemble)
    fuser = Fuser.of(ensemble, categories, sizes=ensemble_sizes(ensemble), maskless=maskless_members(ensemble))
    memory = FeatureMemory(max_age_s=math.inf)  # what is kept of a picture is forgotten once it is answered
    load_member = partial(
        Predictor.from_checkpoint,
        device=device,
        categories=categories,
        memory=memory,
        precision=ensemble.inference.precision,
        batch_px=ensemble.inference.batch_px,
    )
    predictors = {name: load_member(member.checkpoint) for name, member in ensemble.members.items()}
    return EnsemblePredictor(predictors, ensemble.views, fuser, categories)


def _pixels(image: Image) -> NDArray[np.uint8]:
    return open_image(Path(image)) if isinstance(image, (str, Path)) else image
