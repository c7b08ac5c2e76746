"""Pictures of what went right and wrong: what is there beside what was found; tiny objects enlarged."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tis_ray.errors import TisRayError
from tis_ray.explaining.explanation import Explanation
from tis_ray.formats import segmentation
from tis_ray.formats.dataset import ImageRecord
from tis_ray.formats.images import RgbImage, open_image
from tis_ray.masks import CropMasks
from tis_ray.ops.rle import Rle
from tis_ray.overlay import Colour, draw_overlay
from tis_ray.reports.page import Picture

TINY_PX = 32
_SIDE_PX = 800  # of a whole image, at most
_WINDOW_PX, _CONTEXT, _ZOOMED_PX = 48, 4, 320  # around a tiny object, at least, and how large that is shown
_GAP_PX = 8
_RIGHT, _WRONG, _NEITHER = (86, 180, 233), (230, 85, 0), (160, 160, 160)  # told apart with every kind of colour vision
_PICTURES_BYTES = 5_500_000  # of all pictures of a page, as they are embedded

Shown = list[dict[str, Any]]  # as `draw_overlay` takes it
Window = tuple[int, int, int, int]  # x1, y1, x2, y2


@dataclass(frozen=True, slots=True)
class Side:
    """One half of a pair: instances with `category` naming what became of them, and the colours of these names."""

    shown: Shown
    colours: Mapping[str, Colour]
    nothing: str = "nothing found"


def there(one: Explanation, image: int) -> Side:
    """What is there in an image, by its position in the data set: found, missed or to be ignored."""
    pairs = one.overlaps
    places = np.arange(pairs.object_offsets[image], pairs.object_offsets[image + 1])
    labelled, ignored = [], set()
    for place, entry in zip(places.tolist(), _entries(one, image), strict=True):
        state = "ignored" if pairs.crowd[place] else "missed" if one.seen.missed[place] else "found"
        if pairs.crowd[place]:
            if entry.get("id") in ignored:  # of every class, one entry for each
                continue
            ignored.add(entry.get("id"))
        labelled.append((entry, state, None, int(pairs.object_labels[place])))
    return replace(_side(one, image, labelled), nothing="nothing there")


def found(one: Explanation, image: int) -> Side:
    """What was found in it with the least score that is shown, or more: right, false or neither."""
    pairs = one.overlaps
    places = np.arange(pairs.offsets[image], pairs.offsets[image + 1])
    places = places[pairs.scores[places] >= one.min_score]
    labelled = []
    for place in places.tolist():
        state = "right" if one.seen.hits[place] else "false" if one.seen.false[place] else "neither"
        labelled.append(
            (one.results[int(pairs.rows[place])], state, float(pairs.scores[place]), int(pairs.labels[place]))
        )
    return _side(one, image, labelled)


def whole(one: Explanation, image: int) -> list[Picture]:
    """An image twice, with what is there and with what was found; nothing where its file cannot be read.

    Of a large image the part that holds all of it.
    """
    record = one.dataset.images[image]
    pixels = read(record)
    if pixels is None:
        return []
    sides = [there(one, image), found(one, image)]
    window = window_of(sides, (record.height, record.width))
    part = "" if window == (0, 0, record.width, record.height) else " Of the image the part with objects is shown."
    quality = one.images
    counts = f"{quality.hits[image]} found, {quality.missed[image]} missed, {quality.false[image]} false"
    told = f"{record.file_name}: {counts}."
    left, right = (enlarged(pixels, side, window, to_px=0, max_side=_SIDE_PX) for side in sides)
    return [
        Picture(left, f"What is there. {told}", f"{told} Here: what is there.{part}"),
        Picture(right, f"What was found. {told}", "What was found in it."),
    ]


def zoomed(one: Explanation, number: int) -> list[Picture]:
    """Mistakes with tiny objects, enlarged, what is there on the left and what was found on the right.

    Missed ones from the smallest to the largest, and those wrongly found with the best scores, one of an image each.
    """
    pictures: list[Picture] = []
    for image, box, told in _tiny(one, number):
        record = one.dataset.images[image]
        pixels = read(record)
        if pixels is None:
            continue
        window = window_around(box, (record.height, record.width))
        sides = [enlarged(pixels, side, window) for side in (there(one, image), found(one, image))]
        caption = f"{told}, in {window[2] - window[0]} x {window[3] - window[1]} px of {record.file_name}"
        pictures.append(Picture(beside(sides), f"{caption}: what is there, and what was found", caption))
    return pictures


def within_budget(pictures: Sequence[Picture], spent: int = 0) -> tuple[list[Picture], int]:
    """The first of them that a page has room for, and how many bytes are spent then."""
    kept = []
    for picture in pictures:
        spent += len(picture.uri)
        if spent > _PICTURES_BYTES:
            break
        kept.append(picture)
    return kept, spent


def read(record: ImageRecord) -> RgbImage | None:
    """The pixels of an image, None where it cannot be read or is of another size than its record says."""
    try:
        pixels = open_image(record.path)
    except (TisRayError, OSError):
        return None
    return pixels if pixels.shape[:2] == (record.height, record.width) else None


def enlarged(
    pixels: RgbImage, side: Side, window: Window, *, to_px: int = _ZOOMED_PX, max_side: int | None = None
) -> Image.Image:
    """A window of an image, each pixel a square of as many px as make about `to_px`, with what lies in it over it."""
    x1, y1, x2, y2 = window
    factor = max(1, round(to_px / max(x2 - x1, y2 - y1)))
    piece = pixels[y1:y2, x1:x2].repeat(factor, axis=0).repeat(factor, axis=1)
    shown = []
    for instance in side.shown:
        x, y, w, h = instance["bbox"]
        left, top, right, bottom = max(x, x1), max(y, y1), min(x + w, x2), min(y + h, y2)
        if right <= left or bottom <= top:
            continue
        bbox = [(left - x1) * factor, (top - y1) * factor, (right - left) * factor, (bottom - top) * factor]
        shown.append({**instance, "bbox": bbox, "segmentation": _piece_of(instance, window, piece.shape[:2])})
    return draw_overlay(piece, shown, score_threshold=0, max_side=max_side, colours=side.colours, nothing=side.nothing)


def beside(images: Sequence[Image.Image]) -> Image.Image:
    """Pictures in a row on nothing."""
    width = sum(image.width for image in images) + _GAP_PX * (len(images) - 1)
    row = Image.new("RGB", (width, max(image.height for image in images)), (20, 20, 20))
    x = 0
    for image in images:
        row.paste(image, (x, 0))
        x += image.width + _GAP_PX
    return row


def window_around(box: Sequence[float], size_hw: tuple[int, int]) -> Window:
    """A square around a box xywh with something around it, moved into the image and cut to it."""
    x, y, w, h = box
    side = round(max(_WINDOW_PX, _CONTEXT * w, _CONTEXT * h))
    height, width = min(side, size_hw[0]), min(side, size_hw[1])
    left = min(max(round(x + (w - width) / 2), 0), size_hw[1] - width)
    top = min(max(round(y + (h - height) / 2), 0), size_hw[0] - height)
    return left, top, left + width, top + height


def window_of(sides: Sequence[Side], size_hw: tuple[int, int]) -> Window:
    """What holds all instances of these sides and something around them: all of an image that is not large."""
    height, width = size_hw
    boxes = np.array([one["bbox"] for side in sides for one in side.shown], dtype=np.float64).reshape(-1, 4)
    if max(size_hw) <= 1.5 * _SIDE_PX or not len(boxes):
        return 0, 0, width, height
    low, high = boxes[:, :2].min(axis=0), (boxes[:, :2] + boxes[:, 2:]).max(axis=0)
    middle, span = (low + high) / 2, np.maximum(1.2 * (high - low), [_SIDE_PX, 0.6 * _SIDE_PX])
    left, top = np.maximum(np.floor(middle - span / 2), 0).astype(int).tolist()
    right, bottom = np.minimum(np.ceil(middle + span / 2), [width, height]).astype(int).tolist()
    return left, top, right, bottom


def _tiny(one: Explanation, number: int) -> Iterator[tuple[int, Sequence[float], str]]:
    """Image, box xywh and words of each mistake to show."""
    pairs, names = one.overlaps, one.dataset.categories.names
    sizes, own = np.sqrt(pairs.object_areas), np.sqrt(pairs.areas)
    missed = np.flatnonzero(one.seen.missed & (sizes < TINY_PX))
    missed = _first_of_each(missed[np.argsort(sizes[missed], kind="stable")], pairs.object_images)
    half = -(-number // 2)
    false = np.flatnonzero(one.seen.false & (own < TINY_PX))
    false = _first_of_each(false[np.argsort(-pairs.scores[false], kind="stable")], pairs.images)[: number - half]
    spread = np.unique(np.linspace(0, len(missed) - 1, min(half, len(missed))).round().astype(np.int64))
    for place in missed[spread].tolist():
        image = int(pairs.object_images[place])
        entry = _entries(one, image)[place - int(pairs.object_offsets[image])]
        yield image, entry["bbox"], f"Missed: {names[pairs.object_labels[place]]} of {sizes[place]:.0f} px"
    for place in false.tolist():
        told = f"Wrongly found: {names[pairs.labels[place]]} {pairs.scores[place]:.2f} of {own[place]:.0f} px"
        yield int(pairs.images[place]), one.results[int(pairs.rows[place])]["bbox"], told


def _entries(one: Explanation, image: int) -> list[Mapping[str, Any]]:
    """The annotations of an image in the order of its objects."""
    own = slice(one.overlaps.object_offsets[image], one.overlaps.object_offsets[image + 1])
    rows = one.overlaps.object_rows[own]
    entries = one.dataset.entries(one.dataset.images[image].id)
    return [entries[row] for row in (rows - rows.min()).tolist()] if len(rows) else []


def _first_of_each(places: NDArray[np.int64], images: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first of `places` in each image, in their order."""
    _, first = np.unique(images[places], return_index=True)
    return places[np.sort(first)]


def _side(one: Explanation, image: int, labelled: Sequence[tuple[Mapping[str, Any], str, float | None, int]]) -> Side:
    record, names = one.dataset.images[image], one.dataset.categories.names
    shown: Shown = []
    colours: dict[str, Colour] = {}
    for entry, state, score, label in labelled:
        name = names[label] if state in ("found", "right") else f"{names[label]}, {state}"
        colours[name] = {"found": _RIGHT, "right": _RIGHT, "ignored": _NEITHER, "neither": _NEITHER}.get(state, _WRONG)
        mask = entry.get("segmentation") if one.kind == "segm" else None
        rle = segmentation.to_rle(mask, entry["bbox"], record.height, record.width) if mask else None
        shown.append({"category": name, "score": score, "bbox": list(entry["bbox"]), "segmentation": rle})
    return Side(shown, colours)


def _piece_of(instance: Mapping[str, Any], window: Window, to_hw: tuple[int, ...]) -> Rle | None:
    """The part of a mask in a window, at the size that it is shown."""
    rle = instance["segmentation"]
    if rle is None:
        return None
    from_hw = (window[3] - window[1], window[2] - window[0])
    masks = CropMasks.from_rle([rle]).crop(window).resized(from_hw, (to_hw[0], to_hw[1]))
    return masks.to_rle(to_hw[0], to_hw[1])[0]
