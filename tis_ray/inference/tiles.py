"""What a crop or the tiles of a grid show, as the answer of one view.

The frames end where the picture goes on, so that objects are cut there, and neighbouring tiles see some objects twice.
An *inner* edge is an edge of a crop or tile that is no edge of the image.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tis_ray.instances import Instances
from tis_ray.ops.boxes import Boxes
from tis_ray.ops.overlaps import is_covered
from tis_ray.ops.suppression import nms_keep
from tis_ray.views import SizeHW, View

CUT_WITHIN_PX = 4  # network pixels: a box that ends so close to an inner edge is taken for cut by it
SAME_IOU = 0.5
COVERED_SHARE = 0.5


def merge_tiles(tiles: Sequence[View], found: Sequence[Instances], *, image_hw: SizeHW) -> Instances:
    """One view's instances from those of its tiles, in the image frame, highest scores first where tiles are several.

    A box cut by an inner edge is dropped where the view gives way: an object no larger than the overlap (less twice
    the tolerance) is whole in a neighbouring tile, and a larger one in the other view that looks across the edge, where
    its pieces would only be false alarms. Where no other view does, pieces are all there is of a larger object: then a
    cut box stays unless a whole one of its class in another tile covers half of it. Duplicates are removed by class.
    """
    if not tiles:
        return Instances.empty()
    together = Instances.concatenate(found)
    cut = np.concatenate([is_cut(part.boxes, tile, image_hw) for tile, part in zip(tiles, found, strict=True)])
    keep = ~cut
    if not tiles[0].gives_way:
        number = np.repeat(np.arange(len(tiles)), [len(part) for part in found])
        pieces, whole = together[cut], together[~cut]
        keep[cut] = ~is_covered(  # in one tile two boxes are two objects, one of them behind the other
            pieces.boxes, pieces.labels, number[cut], whole.boxes, whole.labels, number[~cut], share=COVERED_SHARE
        )
    together = together[keep]
    if len(tiles) == 1:
        return together
    return together[nms_keep(together.boxes, together.scores, together.labels, iou_threshold=SAME_IOU)]


def is_cut(boxes: Boxes, tile: View, image_hw: SizeHW) -> NDArray[np.bool_]:
    """Which of the boxes (N, 4), in the image frame, end at an inner edge of what `tile` looks at, (N,)."""
    x1, y1, x2, y2 = tile.region(image_hw)
    network_hw, (height, width) = tile.network_hw(image_hw), image_hw
    slack_x = CUT_WITHIN_PX * (x2 - x1) / network_hw[1]
    slack_y = CUT_WITHIN_PX * (y2 - y1) / network_hw[0]
    cut = np.zeros(len(boxes), dtype=np.bool_)
    if x1 > 0:
        cut |= boxes[:, 0] <= x1 + slack_x
    if y1 > 0:
        cut |= boxes[:, 1] <= y1 + slack_y
    if x2 < width:
        cut |= boxes[:, 2] >= x2 - slack_x
    if y2 < height:
        cut |= boxes[:, 3] >= y2 - slack_y
    return cut
