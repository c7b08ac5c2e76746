"""A picture of what was found: translucent masks, thin contours, labels that leave tiny objects visible, a legend.

Lines and letters grow with the picture. The legend stands below it, so that it hides nothing.
"""

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tis_ray.errors import InputError
from tis_ray.formats import segmentation
from tis_ray.formats.coco_results import to_results
from tis_ray.instances import Annotations, Categories, Instances
from tis_ray.ops import rle as rle_ops

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Okabe and Ito's colours, told apart with every kind of colour vision; black is left out.
_PALETTE: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (204, 121, 167),
    (0, 114, 178),
)
_SHADES = (0.0, 0.45, -0.35)  # the palette again, lighter and darker, for more classes
_MASK_OPACITY = 0.45
_INK, _PAPER = (20, 20, 20), (250, 250, 250)


@dataclass(frozen=True, slots=True)
class _Style:
    """Sizes in px for one picture."""

    line: int
    font: Font
    text: int
    pad: int

    @staticmethod
    def for_size(height: int, width: int) -> "_Style":
        side = float(np.sqrt(height * width))
        text = max(11, round(side / 90))
        return _Style(max(1, round(side / 1000)), ImageFont.load_default(text), text, max(1, text // 6))


def draw_overlay(
    image: NDArray[np.uint8],
    found: Sequence[Any],
    *,
    categories: Categories | Sequence[str] = (),
    score_threshold: float = 0.3,
    max_side: int | None = None,
    colours: Mapping[str, Colour] | None = None,
    nothing: str = "nothing found",
) -> Image.Image:
    """The image with the found instances drawn over it and a legend below.

    image:      uint8 (H, W, 3) RGB
    found:      one mapping or dataclass for each instance, as the service and its client answer: `category`,
                `score` (None for what is truly there), `bbox` x, y, width, height in px, and perhaps `segmentation`
                of the image's size. Without one, the box is drawn.
    categories: the classes or their names in label order; they fix the colours, which otherwise follow from the
                names.
    max_side:   the finished picture is reduced to this many px along its longer side.
    colours:    red, green and blue of some of the names, where they are to say something else than the class.
    nothing:    what the legend says of no instances.

    Raises `InputError` for an image, an instance or a mask of another form.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(f"image: expected uint8 (H, W, 3); got {image.dtype} {image.shape}")
    height, width = image.shape[:2]
    style = _Style.for_size(height, width)
    shown = [_checked(i, one, height, width) for i, one in enumerate(found)]
    shown = [one for one in shown if one["score"] is None or one["score"] >= score_threshold]
    shown.sort(key=lambda one: -one["bbox"][2] * one["bbox"][3])  # small ones last, on top
    names = categories.names if isinstance(categories, Categories) else categories
    given = colours or {}
    used = {one["category"] for one in shown}
    colours = {name: given[name] if name in given else colour_of(name, names) for name in used}

    canvas = image.copy()
    for one in shown:
        if one.get("segmentation"):
            _paint_mask(canvas, one["segmentation"], one["bbox"], colours[one["category"]], style.line)
    picture = Image.fromarray(canvas)
    draw = ImageDraw.Draw(picture)
    for one in shown:
        if not one.get("segmentation"):
            x, y, w, h = one["bbox"]
            draw.rectangle((x, y, x + w, y + h), outline=colours[one["category"]], width=style.line)
    _draw_labels(draw, shown, colours, style, (height, width))
    picture = _with_legend(picture, Counter(one["category"] for one in shown), colours, style, nothing)
    if max_side is not None:
        picture.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    return picture


def found_of(instances: Instances, *, categories: Categories, size_hw: tuple[int, int]) -> list[dict[str, Any]]:
    """Predictions of one image of this size in the form that `draw_overlay` takes."""
    results = to_results(instances, image_id=0, categories=categories, size_hw=size_hw)
    names = [categories.names[label] for label in instances.labels.tolist()]
    return [{**result, "category": name} for result, name in zip(results, names, strict=True)]


def true_of(truth: Annotations, *, categories: Categories, size_hw: tuple[int, int]) -> list[dict[str, Any]]:
    """Ground truth of one image of this size in the form that `draw_overlay` takes; crowds are named as such."""
    names = [*categories.names, "any class"]  # of label -1
    return [
        {
            "category": f"{names[label]} (ignored)" if crowd else names[label],
            "score": None,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "segmentation": rle,
        }
        for (x1, y1, x2, y2), label, crowd, rle in zip(
            truth.boxes.tolist(), truth.labels.tolist(), truth.crowd, truth.masks.to_rle(*size_hw), strict=True
        )
    ]


def colour_of(name: str, categories: Sequence[str] = ()) -> Colour:
    """A class's colour: by its place among `categories`, or by its name alone where it is not among them."""
    index = categories.index(name) if name in categories else zlib.crc32(name.encode())
    base, shade = _PALETTE[index % len(_PALETTE)], _SHADES[index // len(_PALETTE) % len(_SHADES)]
    towards = 255 if shade > 0 else 0
    red, green, blue = (round(value + (towards - value) * abs(shade)) for value in base)
    return red, green, blue


def _checked(position: int, one: Any, height: int, width: int) -> Mapping[str, Any]:
    if is_dataclass(one) and not isinstance(one, type):
        one = asdict(one)
    if not isinstance(one, Mapping):
        raise InputError(f"found[{position}]: expected a mapping or a dataclass; got {type(one).__name__}")
    lacking = [key for key in ("category", "score", "bbox") if key not in one]
    if lacking:
        raise InputError(f"found[{position}]: expected category, score and bbox; got no {', '.join(lacking)}")
    if len(one["bbox"]) != 4 or not np.isfinite(one["bbox"]).all() or min(one["bbox"][2:]) < 0:
        raise InputError(f"found[{position}].bbox: expected x, y, width, height; got {one['bbox']}")
    problem = segmentation.problem_of(one.get("segmentation"), height, width)
    if problem:
        raise InputError(f"found[{position}].segmentation: {problem}")
    return one


def _paint_mask(canvas: NDArray[np.uint8], mask: Any, bbox: Sequence[float], colour: Colour, line: int) -> None:
    """Blend one mask into the canvas, within its own crop, and draw its contour just outside of it."""
    height, width = canvas.shape[:2]
    crop, (x, y) = rle_ops.decode_crop(segmentation.to_rle(mask, bbox, height, width))
    if crop.size == 0:
        return
    left, top = min(x, line), min(y, line)
    right, bottom = min(width - x - crop.shape[1], line), min(height - y - crop.shape[0], line)
    inside = np.pad(crop.astype(bool), ((top, bottom), (left, right)))
    contour = _grown(inside, line) & ~inside
    part = canvas[y - top : y - top + inside.shape[0], x - left : x - left + inside.shape[1]]
    ink = np.array(colour, dtype=np.float32)
    part[inside] = (part[inside] * (1 - _MASK_OPACITY) + ink * _MASK_OPACITY).astype(np.uint8)
    part[contour] = colour


def _grown(mask: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    """The mask and all pixels up to `by` px away from it, along rows and then along columns."""
    for axis in (0, 1):
        grown = mask.copy()
        ahead, behind = np.moveaxis(grown, axis, 0), np.moveaxis(mask, axis, 0)
        for step in range(1, by + 1):
            ahead[step:] |= behind[:-step]
            ahead[:-step] |= behind[step:]
        mask = grown
    return mask


def _draw_labels(
    draw: ImageDraw.ImageDraw,
    shown: Sequence[Mapping[str, Any]],
    colours: Mapping[str, Colour],
    style: _Style,
    size_hw: tuple[int, int],
) -> None:
    """Best score first: each label where it covers no other label and no tiny object, or not at all.

    Of such places, one that covers no other object either is preferred.
    """
    boxes = np.array([one["bbox"] for one in shown], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    sides = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    large = sides >= 4 * style.text
    taken = boxes[~large]
    for i in np.argsort([-1.0 if one["score"] is None else -one["score"] for one in shown], kind="stable"):
        score = shown[i]["score"]
        text = shown[i]["category"] if score is None else f"{shown[i]['category']} {score:.2f}"
        wide = draw.textlength(text, font=style.font) + 2 * style.pad
        high = style.text + 2 * style.pad
        places = _places(boxes[i], wide, high, size_hw, inside=bool(large[i]))
        places = places[~_overlap(places, taken).any(axis=1)]
        if len(places) == 0:
            continue
        others = boxes[large & (np.arange(len(boxes)) != i)]
        x1, y1, x2, y2 = places[np.argmin(_overlap(places, others).any(axis=1))]
        taken = np.concatenate([taken, [[x1, y1, x2, y2]]])
        colour = colours[shown[i]["category"]]
        draw.rectangle((x1, y1, x2, y2), fill=colour)
        middle = (x1 + style.pad, (y1 + y2) / 2)
        draw.text(middle, text, fill=_readable_on(colour), font=style.font, anchor="lm")


def _places(
    box: NDArray[np.float64], wide: float, high: float, size_hw: tuple[int, int], *, inside: bool
) -> NDArray[np.float64]:
    """Where a label of a box may stand in the picture, the best first: (P, 4) xyxy. `inside` a large box too."""
    x1, y1, x2, y2 = box
    above, below, right = y1 - high - 2, y2 + 2, x2 - wide
    corners = [(x1, above), (x1, below), (x2 + 2, y1), (x1 - wide - 2, y1), (right, above), (right, below)]
    if inside:
        middle = ((x1 + x2 - wide) / 2, (y1 + y2 - high) / 2)
        corners = [(x1 + 2, y1 + 2), (right - 2, y2 - high - 2), middle, *corners]
    places = np.round([(x, y, x + wide, y + high) for x, y in corners])
    within = (places[:, :2] >= 0).all(axis=1) & (places[:, 2:] <= [size_hw[1], size_hw[0]]).all(axis=1)
    return np.asarray(places[within])


def _overlap(places: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which places cover some of which boxes, (P, B)."""
    starts = places[:, None, :2] < boxes[None, :, 2:]
    ends = places[:, None, 2:] > boxes[None, :, :2]
    return np.asarray((starts & ends).all(axis=2))


def _with_legend(
    picture: Image.Image, counts: Mapping[str, int], colours: Mapping[str, Colour], style: _Style, nothing: str
) -> Image.Image:
    """The picture above a strip that names each class with its colour and count, most frequent first."""
    names = sorted(counts, key=lambda name: (-counts[name], name))
    entries: list[tuple[str, Colour | None]] = [(f"{name}: {counts[name]}", colours[name]) for name in names]
    entries = entries or [(nothing, None)]
    row, gap = style.text + 4 * style.pad, style.text
    places, x, y = [], gap, 0
    for text, _ in entries:
        wide = round(style.font.getlength(text)) + 2 * gap + style.text // 2
        if x > gap and x + wide > picture.width:
            x, y = gap, y + row
        places.append((x, y))
        x += wide
    whole = Image.new("RGB", (picture.width, picture.height + y + row), _INK)
    whole.paste(picture, (0, 0))
    draw = ImageDraw.Draw(whole)
    for (text, colour), (x, y) in zip(entries, places, strict=True):
        middle = picture.height + y + row // 2
        if colour is not None:
            half = style.text // 2
            draw.rectangle((x, middle - half, x + style.text, middle + half), fill=colour)
            x += style.text + style.text // 2
        draw.text((x, middle), text, fill=_PAPER, font=style.font, anchor="lm")
    return whole


def _readable_on(colour: Colour) -> Colour:
    red, green, blue = colour
    return _INK if 0.299 * red + 0.587 * green + 0.114 * blue > 120 else _PAPER
