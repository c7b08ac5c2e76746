"""What shows where no object is: the categories of a scene's map of stuff, and the map itself.

Maps are as COCO-stuff's: a pixel is the id of its category less one, be it of stuff or of an object's class, and 255
where it is neither. Ids of stuff come behind those of all classes, as there.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tis_ray.data.scenes.canvas import Canvas

SKY, BUILDING, ROAD, PAVEMENT, GROUND, GRASS, TREE, FURNITURE = range(91, 99)
_NAMES = {
    SKY: ("sky", "sky"),
    BUILDING: ("building", "building"),
    ROAD: ("road", "ground"),
    PAVEMENT: ("pavement", "ground"),
    GROUND: ("ground", "ground"),
    GRASS: ("grass", "plant"),
    TREE: ("tree", "plant"),
    FURNITURE: ("street furniture", "structural"),
}


def stuff_categories() -> list[dict[str, Any]]:
    """Ids, names and supercategories, as COCO-stuff lists them; pixels are the ids less one."""
    return [{"id": value + 1, "name": name, "supercategory": above} for value, (name, above) in _NAMES.items()]


def stuff_map(canvas: Canvas, category_ids: Sequence[int]) -> NDArray[np.uint8]:
    """The map uint8 (H, W) of what was painted; `category_ids` are those of instances 1, 2, ..."""
    values = np.array([0, *(id_ - 1 for id_ in category_ids)], dtype=np.uint8)
    return np.where(canvas.ids > 0, values[canvas.ids], canvas.stuff)
