"""Procedural street scenes with exact masks: the data of the demo and of the tests.

A street is planned in metres (`street`, `layout`), painted in perspective from far to near (`backdrop`,
`houses`, `vehicles`, `cycles`, `people`, `furniture`) onto a canvas that keeps the instance number of every
pixel (`canvas`) and what shows where there is none (`stuff`), and photographed (`render`). `write` makes a COCO
data set of many. Of the preset `thin` (`thin_layout`, `thin`, `strokes`) the objects are long and fill little of
their boxes.
"""

from tis_ray.data.scenes.classes import categories
from tis_ray.data.scenes.render import DEFAULT_SIZE_WH, render_scene
from tis_ray.data.scenes.write import ScenesSummary, write_scenes

__all__ = ["DEFAULT_SIZE_WH", "ScenesSummary", "categories", "render_scene", "write_scenes"]
