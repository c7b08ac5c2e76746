"""One picture of a scene set with its exact annotations."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from tis_ray.data.scenes import cycles, vehicles
from tis_ray.data.scenes.backdrop import paint_backdrop
from tis_ray.data.scenes.camera import Camera
from tis_ray.data.scenes.canvas import Canvas
from tis_ray.data.scenes.classes import SceneClass, scene_classes
from tis_ray.data.scenes.furniture import FURNITURE, paint_furniture
from tis_ray.data.scenes.layout import Thing, populate
from tis_ray.data.scenes.light import Light
from tis_ray.data.scenes.models import paint_model
from tis_ray.data.scenes.people import paint_person
from tis_ray.data.scenes.street import Street
from tis_ray.data.scenes.stuff import stuff_map
from tis_ray.data.scenes.thin import PAINTERS as THIN
from tis_ray.data.scenes.thin import paint_thin
from tis_ray.data.scenes.thin_layout import populate_thin
from tis_ray.errors import InputError
from tis_ray.instances import Annotations
from tis_ray.masks import CropMasks

DEFAULT_SIZE_WH = (512, 384)
MIN_SIDE_PX, MAX_SIDE_PX = 64, 8192
MIN_VISIBLE_PX = 6  # what shows less is background
_MODELS = vehicles.BUILDERS | cycles.BUILDERS


def render_scene(
    seed: int,
    size_wh: tuple[int, int] = DEFAULT_SIZE_WH,
    preset: str = "driving",
    *,
    index: int = 0,
) -> tuple[NDArray[np.uint8], Annotations]:
    """Picture `index` of the set that `seed` makes: uint8 (H, W, 3) RGB before JPEG, and what is visible in it.

    Labels index the preset's classes, masks hold each instance's visible pixels and share none; `stuff` is what every
    pixel shows. Raises `InputError` for a size outside 64..8192 px, an unknown preset, or a negative seed.
    """
    check_settings(seed, size_wh, preset)
    classes = scene_classes(preset)
    picture, canvas, labels = paint_scene(seed, size_wh, classes, index=index)
    stuff = stuff_map(canvas, [classes[label].category_id for label in labels])
    return picture, replace(visible_annotations(canvas, labels), stuff=stuff)


def check_settings(seed: int, size_wh: tuple[int, int], preset: str) -> None:
    """Raise `InputError` for what no picture can be made of."""
    scene_classes(preset)
    if seed < 0:
        raise InputError(f"seed: expected a whole number from 0; got {seed}")
    if len(size_wh) != 2 or not all(MIN_SIDE_PX <= side <= MAX_SIDE_PX for side in size_wh):
        came = "x".join(str(side) for side in size_wh)
        raise InputError(f"size: expected width and height of {MIN_SIDE_PX}..{MAX_SIDE_PX} px; got {came}")


def paint_scene(
    seed: int, size_wh: tuple[int, int], classes: tuple[SceneClass, ...], *, index: int
) -> tuple[NDArray[np.uint8], Canvas, list[int]]:
    """The picture, the canvas with its instance number of every pixel (H, W), and label k of number k + 1.

    Plan, backdrop and sensor draw from generators of their own, so that the size does not change the plan.
    """
    plan, back, sensor = (np.random.default_rng([seed, index, part]) for part in range(3))
    camera, light, street = Camera.draw(plan, size_wh), Light.draw(plan), Street.draw(plan)
    things = (populate_thin if classes[0].kind in THIN else populate)(plan, street, classes)
    canvas = Canvas(*paint_backdrop(back, camera, light, street))
    labels: list[int] = []
    for thing in things:
        if thing.label >= 0:
            labels.append(thing.label)
        _paint_thing(canvas, camera, light, thing, classes, number=len(labels) if thing.label >= 0 else 0)
    return _expose(sensor, canvas.picture), canvas, labels


def _paint_thing(
    canvas: Canvas, camera: Camera, light: Light, thing: Thing, classes: tuple[SceneClass, ...], *, number: int
) -> None:
    rng = np.random.default_rng(thing.seed)
    if thing.kind in FURNITURE:
        paint_furniture(canvas, camera, light, rng, thing.kind, x=thing.x, z=thing.z)
        return
    if thing.kind in THIN:
        paint_thin(canvas, camera, light, rng, thing, number=number)
        return
    colour = classes[thing.label].colour if number else None
    if thing.kind == "person":
        paint_person(canvas, camera, light, rng, x=thing.x, z=thing.z, number=number, colour=colour)
        return
    solids = _MODELS[thing.kind](rng, colour)
    paint_model(canvas, camera, light, solids, x=thing.x, z=thing.z, yaw=thing.yaw, number=number)


def _expose(rng: np.random.Generator, picture: Image.Image) -> NDArray[np.uint8]:
    """What lens and sensor make of it: slight blur, dark corners, contrast and noise."""
    width, height = picture.size
    blurred = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.25, 0.65)))
    contrast, sigma, edge = rng.uniform(0.9, 1.1), rng.uniform(1.5, 6.0), rng.uniform(0.0, 0.16)
    x = np.linspace(-1, 1, width, dtype=np.float32) ** 2
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] ** 2
    gain = (contrast * (1 - edge * (x + y) / 2)).astype(np.float32)
    lift = np.float32(128 * (1 - contrast))
    out = np.empty((height, width, 3), dtype=np.uint8)
    for top in range(0, height, 256):  # in bands, so that a large frame needs no second copy in float
        band = np.asarray(blurred.crop((0, top, width, min(top + 256, height))), dtype=np.float32)
        grain = rng.standard_normal((*band.shape[:2], 1), dtype=np.float32)
        colour = rng.standard_normal(((band.shape[0] + 1) // 2, (width + 1) // 2, 3), dtype=np.float32)
        colour = colour.repeat(2, axis=0).repeat(2, axis=1)[: band.shape[0], :width]
        seen = band * gain[top : top + 256, :, None] + lift + sigma * (0.85 * grain + 0.4 * colour)
        out[top : top + 256] = np.clip(seen, 0, 255).astype(np.uint8)
    return out


def visible_annotations(canvas: Canvas, labels: list[int]) -> Annotations:
    """The instances that show at least `MIN_VISIBLE_PX` pixels: tight crops of the numbered pixels."""
    crops, offsets, kept = [], [], []
    for number, (x1, y1, x2, y2) in sorted(canvas.regions.items()):
        mask = canvas.ids[y1:y2, x1:x2] == number
        if np.count_nonzero(mask) < MIN_VISIBLE_PX:
            continue
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        top, left = rows[0], columns[0]
        crops.append(mask[top : rows[-1] + 1, left : columns[-1] + 1].astype(np.uint8))
        offsets.append((x1 + left, y1 + top))
        kept.append(labels[number - 1])
    masks = CropMasks(np.array(offsets, dtype=np.int32).reshape(-1, 2), tuple(crops))
    return Annotations(masks.boxes(), np.array(kept, dtype=np.int32), masks, np.zeros(len(kept), dtype=np.bool_))
