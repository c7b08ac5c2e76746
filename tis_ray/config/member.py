"""A member of an ensemble: a trained model, the views it is asked for and how they share deployments."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt, model_validator

from tis_ray.config.section import Section
from tis_ray.views import View

NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")

# Test-time scales of published systems: shorter edges in network pixels, each also mirrored.
PRESETS: dict[str, dict[str, Any]] = {
    "tis": {"scales": tuple(range(1810, 4511, 300)), "max_long_edge": 8000, "flip": True},  # WAD 2018
    "megdet": {"scales": tuple(range(600, 1401, 200)), "flip": True},  # MegDetV2, COCO 2019
}


def _check_scales(scales: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(scales)) != len(scales) or min(scales, default=1) < 1:
        raise ValueError("expected different shorter edges of at least 1 px")
    return scales


Scales = Annotated[tuple[int, ...], AfterValidator(_check_scales)]


class Tiles(Section):
    """A grid of equal tiles over the whole image, `width` x `height` image pixels, neighbours sharing `overlap`.

    An object whose sides are no longer than the overlap is whole in some tile.
    """

    width: PositiveInt
    height: PositiveInt
    overlap: int = Field(ge=0)

    @model_validator(mode="after")
    def _check_overlap(self) -> Self:
        if 2 * self.overlap > min(self.width, self.height):
            raise ValueError(
                f"overlap: expected at most half a tile's side, {min(self.width, self.height) // 2}; got {self.overlap}"
            )
        return self


class Crop(Section):
    """A part of the image that a member looks at by itself: one `box` x1, y1, x2, y2, or all `tiles` of a grid.

    Numbers are image pixels; `scales` are shorter edges of the network input for the box or for each tile.
    """

    box: tuple[int, int, int, int] | None = None
    tiles: Tiles | None = None
    scales: Scales = Field(min_length=1)

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if (self.box is None) == (self.tiles is None):
            raise ValueError("expected either box or tiles")
        if self.box is not None and not (0 <= self.box[0] < self.box[2] and 0 <= self.box[1] < self.box[3]):
            raise ValueError(f"box: expected 0 <= x1 < x2 and 0 <= y1 < y2; got {list(self.box)}")
        return self


def _as_texts(keys: Any) -> Any:
    return tuple(map(str, keys)) if isinstance(keys, (list, tuple)) else keys


Group = Annotated[tuple[str, ...], BeforeValidator(_as_texts), Field(min_length=1)]


class MemberViews(Section):
    """The views that a trained model is asked for: every scale, each also mirrored where `flip`.

    `scales` look at the whole image, `crops` at parts of it. Each scale gets a view server of its own,
    `member@SCALE` or `member@SCALE.CROP`; `groups` puts several on one, as `groups: {low: [600, 800]}` does for
    `member@low`. `preset` stands for the scales of a published system and gives way to what is written beside it.
    `max_long_edge` caps the network input's longer edge, so that no picture of 1 x 50000 px takes all memory.
    """

    preset: Literal["tis", "megdet"] | None = None
    scales: Scales = ()
    max_long_edge: PositiveInt | None = 8000
    flip: bool = True
    crops: dict[str, Crop] = Field(default_factory=dict)
    groups: dict[str, Group] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _fill_preset(cls, content: Any) -> Any:
        name = content.get("preset") if isinstance(content, dict) else None
        return {**PRESETS[name], **content} if isinstance(name, str) and name in PRESETS else content

    @model_validator(mode="after")
    def _check_views(self) -> Self:
        if not self.scales and not self.crops:
            raise ValueError("scales: expected at least one, here or under crops; got none")
        for name in [*self.crops, *self.groups]:
            if not name or not set(name) <= NAME_CHARACTERS or name[0].isdigit():
                raise ValueError(f"'{name}': expected a name of letters, digits, '_', '-' and '.', no digit first")
        known = {view.key.partition("@")[2] for view in self.views("member")}
        grouped = [key for keys in self.groups.values() for key in keys]
        for key in grouped:
            if key not in known:
                raise ValueError(f"groups: expected some of {', '.join(sorted(known))}; got {key}")
            if grouped.count(key) > 1:
                raise ValueError(f"groups: expected each scale once; got {key} twice")
        return self

    def views(self, name: str) -> Iterator[View]:
        """Every view of this member, whose name in the ensemble is `name`."""
        parts: list[tuple[str, Crop | None, Scales]] = [("", None, self.scales)]
        parts += [(crop_name, crop, crop.scales) for crop_name, crop in self.crops.items()]
        for crop_name, crop, scales in parts:
            box = crop.box or () if crop else ()
            tile = (crop.tiles.width, crop.tiles.height, crop.tiles.overlap) if crop and crop.tiles else ()
            for scale in scales:
                for flip in (False, True) if self.flip else (False,):
                    yield View(name, scale, flip, box, self.max_long_edge, crop_name, tile)

    def deployment(self, view: View) -> str:
        """Name of the deployment that runs `view`."""
        name, _, key = view.key.partition("@")
        return next((f"{name}@{group}" for group, keys in self.groups.items() if key in keys), view.key)


class Member(MemberViews):
    """One trained model and the views it is asked for."""

    checkpoint: Path
