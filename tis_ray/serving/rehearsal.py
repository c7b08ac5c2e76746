"""What the first picture with objects would otherwise wait for: numba compiles the kernels of fusing and of writing
masks when they are first called, seconds of it in a container that never did, and loads them after that.

Objects are made up, fused and written while a replica starts.
"""

from collections.abc import Sequence

import numpy as np

from tis_ray.fusion.fuse import Fuser
from tis_ray.instances import Categories, Instances
from tis_ray.masks import BoxMasks
from tis_ray.serving import answer
from tis_ray.views import View

_IMAGE_HW = (96, 128)
_PATCH = 28


def rehearse_fusion(fuser: Fuser, sources: Sequence[View]) -> Instances:
    """Fuse what every view might have found, and return it; what views do not predict is not made up."""
    found = {view: _made_up(masks=fuser.plan(view).own_masks) for view in sources if fuser.plan(view).boxes}
    merged = fuser.merge(found, image_hw=_IMAGE_HW, sources=sources)
    predicted = {view: _masks(merged.instances.boxes) for view in sources if fuser.plan(view).masks}
    return fuser.finish(merged, predicted)


def rehearse_writing(categories: Categories) -> None:
    """Write made-up objects with their masks in every way."""
    for masks in ("rle", "polygon"):
        answer.write_instances(_made_up(masks=True), categories=categories, image_hw=_IMAGE_HW, masks=masks)


def _made_up(*, masks: bool) -> Instances:
    """Two objects of the first class, one upon the other, and one beside them, of sizes that most ranges hold."""
    boxes = np.array([[10, 10, 60, 60], [12, 10, 62, 60], [80, 20, 120, 60]], dtype=np.float32)
    return Instances.of(boxes, [0.9, 0.8, 0.7], [0, 0, 0], _masks(boxes) if masks else None)


def _masks(boxes: np.ndarray) -> BoxMasks:
    across = np.linspace(-1.2, 1.2, _PATCH)
    disc = np.clip(1.5 - np.hypot(across[:, None], across), 0, 1).astype(np.float16)
    return BoxMasks(boxes, np.repeat(disc[None], len(boxes), axis=0))
