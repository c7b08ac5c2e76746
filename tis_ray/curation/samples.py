"""Pictures of a data set with what is truly there drawn over them: some of its images, and its smallest objects."""

import random
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tis_ray.curation.check import Findings
from tis_ray.errors import DataError
from tis_ray.formats.dataset import GroundTruth, ImageRecord
from tis_ray.formats.images import RgbImage, open_image
from tis_ray.instances import Annotations
from tis_ray.ops import boxes as box_ops
from tis_ray.overlay import draw_overlay, true_of
from tis_ray.reports.page import Picture

MOST_SIDE_PX = 900
_WINDOW_PX, _CONTEXT, _ZOOMED_PX = 48, 5, 400  # around a small object, at least, and how large that is shown
_FILLED = 0.5  # share of a mask's pixels that must lie in a window for its object to be drawn

Box = NDArray[np.float32]  # (4,) xyxy


def whole_images(findings: Findings, number: int, *, seed: int = 0) -> list[Picture]:
    """So many images drawn by `seed`, those with objects before others; unreadable ones are passed over."""
    with_objects = set(findings.image_ids.tolist())
    records = list(findings.truth.images)
    random.Random(seed).shuffle(records)
    records.sort(key=lambda record: record.id not in with_objects)
    pictures: list[Picture] = []
    for record in records[: 2 * number]:
        if len(pictures) < number and (picture := _whole(findings.truth, record)) is not None:
            pictures.append(picture)
    return pictures


def smallest_objects(findings: Findings, number: int) -> list[Picture]:
    """The smallest objects with a mask, one of an image, each in the middle of an enlarged piece of it."""
    pictures: list[Picture] = []
    seen: set[int] = set()
    for i in np.argsort(findings.areas, kind="stable").tolist():
        image_id = int(findings.image_ids[i])
        if len(pictures) == number or len(seen) == 2 * number:
            break
        if findings.areas[i] > 0 and image_id not in seen:
            seen.add(image_id)
            picture = _smallest_of(findings.truth, findings.truth.image(image_id))
            pictures += [picture] if picture is not None else []
    return pictures


def _whole(truth: GroundTruth, record: ImageRecord) -> Picture | None:
    read = _read(truth, record)
    if read is None:
        return None
    pixels, objects = read
    picture = _overlay(pixels, objects, truth).copy()
    picture.thumbnail((MOST_SIDE_PX, MOST_SIDE_PX), Image.Resampling.LANCZOS)
    count = int((~objects.crowd).sum())
    return Picture(picture, f"{record.file_name} with {count} objects", f"{record.file_name}: {count} objects")


def _smallest_of(truth: GroundTruth, record: ImageRecord) -> Picture | None:
    read = _read(truth, record)
    if read is None:
        return None
    pixels, objects = read
    areas = np.where(objects.crowd, np.inf, objects.masks.areas())
    areas[areas == 0] = np.inf
    if not np.isfinite(areas).any():
        return None
    smallest = int(np.argmin(areas))
    window = _window(objects.boxes[smallest], (record.height, record.width))
    name = truth.categories.names[objects.labels[smallest]]
    scale = float(np.sqrt(areas[smallest]))
    picture = _zoomed(pixels, objects, window, truth)
    side = window[2] - window[0]
    caption = f"{name} of {scale:.1f} px, in {side} x {window[3] - window[1]} px of {record.file_name}"
    return Picture(picture, caption, caption)


def _zoomed(
    pixels: RgbImage,
    objects: Annotations,
    window: tuple[int, int, int, int],
    truth: GroundTruth,
) -> Image.Image:
    x1, y1, x2, y2 = window
    factor = max(1, round(_ZOOMED_PX / max(x2 - x1, y2 - y1)))
    piece = pixels[y1:y2, x1:x2].repeat(factor, axis=0).repeat(factor, axis=1)
    masks = objects.masks.crop(window)
    inside = masks.areas() > _FILLED * objects.masks.areas()
    from_hw, to_hw = (y2 - y1, x2 - x1), piece.shape[:2]
    boxes = box_ops.clip(objects.boxes - np.array([x1, y1, x1, y1], dtype=np.float32), *from_hw)
    shown = replace(objects, masks=masks.resized(from_hw, (to_hw[0], to_hw[1])), boxes=boxes * np.float32(factor))
    return _overlay(piece, shown[inside], truth)


def _overlay(pixels: RgbImage, objects: Annotations, truth: GroundTruth) -> Image.Image:
    size_hw = (pixels.shape[0], pixels.shape[1])
    shown = true_of(objects, categories=truth.categories, size_hw=size_hw)
    return draw_overlay(pixels, shown, categories=truth.categories)


def _read(truth: GroundTruth, record: ImageRecord) -> tuple[RgbImage, Annotations] | None:
    try:
        pixels, objects = open_image(record.path), truth.annotations(record.id)
    except DataError:
        return None
    return (pixels, objects) if pixels.shape[:2] == (record.height, record.width) else None


def _window(box: Box, size_hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """A square around a box with something around it, moved into the image and cut to it."""
    x1, y1, x2, y2 = box.tolist()
    side = round(max(_WINDOW_PX, _CONTEXT * (x2 - x1), _CONTEXT * (y2 - y1)))
    height, width = min(side, size_hw[0]), min(side, size_hw[1])
    left = min(max(round((x1 + x2 - width) / 2), 0), size_hw[1] - width)
    top = min(max(round((y1 + y2 - height) / 2), 0), size_hw[0] - height)
    return left, top, left + width, top + height
