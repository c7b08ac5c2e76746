"""A whole ensemble in one process, without Ray: `tis_ray.load("ensemble.yaml").predict(image)`.

The same predictors, views and fusion as the service, so the same answer.
"""

import math
from collections.abc import Mapping, Sequence
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
        pixels = _pixels(image)
        key = f"picture {next(self._pictures)}"
        try:
            found = self.predict_views(pixels, remember=key)
            merged = self.fuser.merge(found, image_hw=(pixels.shape[0], pixels.shape[1]), sources=self.views)
            return self.fuser.finish(merged, self._second_pass(pixels, merged, recall=key))
        finally:
            for predictor in self.predictors.values():
                predictor.memory.forget(key)

    def predict_views(self, image: NDArray[np.uint8], *, remember: str | None = None) -> dict[View, Instances]:
        """What each view that is asked for boxes finds by itself, before fusion, for uint8 RGB (H, W, 3).

        Under the key `remember` the features of views that will be asked for masks of the fused boxes are kept.
        """
        check_image(image)
        found: dict[View, Instances] = {}
        for name, predictor in self.predictors.items():
            own = [view for view in self.views if view.member == name and self.fuser.plan(view).boxes]
            if own:
                plan = self.fuser.plan(own[0])
                key = remember if plan.masks else None
                found.update(zip(own, predictor.predict(image, own, masks=plan.own_masks, remember=key), strict=True))
        return found

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
        masks = self.fuser.finish(merged, self._ask_masks(pixels, merged, asked, recall=None)).masks
        assert isinstance(masks, BoxMasks)
        return masks

    def _second_pass(self, image: NDArray[np.uint8], merged: Merged, *, recall: str) -> dict[View, BoxMasks]:
        asked = [view for view in self.views if self.fuser.plan(view).masks]
        return self._ask_masks(image, merged, asked, recall=recall)

    def _ask_masks(
        self, image: NDArray[np.uint8], merged: Merged, views: Sequence[View], *, recall: str | None
    ) -> dict[View, BoxMasks]:
        boxes, labels = merged.instances.boxes, merged.instances.labels
        found: dict[View, BoxMasks] = {}
        for name, predictor in reversed(self.predictors.items()):  # where not all is remembered, it is the last that is
            own = [view for view in views if view.member == name]
            if own:
                masks = predictor.predict_masks(image, boxes, labels, own, recall=recall)
                found.update(zip(own, masks, strict=True))
        return found


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
