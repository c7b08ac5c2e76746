"""What a client makes of an answer: typed and frozen, with ways to COCO, to tis-ray's own arrays and to supervision.

Fields that a newer service adds are left out here, so that an older client goes on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from tis_ray.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image
    from supervision import Detections

    from tis_ray.instances import Categories, Instances
    from tis_ray.serving.pictures import Picture

_Row = TypeVar("_Row")


@dataclass(frozen=True, slots=True)
class FoundInstance:
    """One instance: `bbox` x, y, width, height in image pixels; `segmentation` COCO RLE, polygons or None.

    `mask_score` ranks its mask, where members predict how well masks fit; else it is None.
    """

    category_id: int
    category: str
    score: float
    bbox: tuple[float, float, float, float]
    segmentation: dict[str, Any] | list[list[int]] | None
    area: float
    mask_score: float | None = None


@dataclass(frozen=True, slots=True)
class ViewOutcome:
    """How one view of the ensemble fared; `detections` with `explain=True`.

    `crop` is x1, y1, x2, y2, `tile` width, height and overlap of a grid, both in image pixels.
    """

    member: str
    scale: int
    flip: bool
    crop: tuple[int, ...] | None
    tile: Mapping[str, int] | None
    crop_name: str | None
    status: str
    seconds: float
    instances: int
    detections: tuple[dict[str, Any], ...] | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """The service's answer for one image."""

    width: int
    height: int
    sha256: str
    instances: tuple[FoundInstance, ...]
    views: tuple[ViewOutcome, ...]
    degraded: bool
    timings: Mapping[str, float]
    model_version: str

    @staticmethod
    def from_json(answer: Any) -> "Result":
        """The answer of `/v1/segment`, parsed. Raises `InputError` where it is none."""
        try:
            return Result(
                **{key: answer["image"][key] for key in ("width", "height", "sha256")},
                instances=tuple(_row(FoundInstance, row, bbox=tuple(row["bbox"])) for row in answer["instances"]),
                views=tuple(_view(row) for row in answer["views"]),
                **{key: answer[key] for key in ("degraded", "timings", "model_version")},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"answer: expected that of /v1/segment; got something else ({error!r})") from None

    def to_json(self) -> dict[str, Any]:
        """The answer as the service wrote it; `from_json` reads it back."""
        return {
            "image": {"width": self.width, "height": self.height, "sha256": self.sha256},
            "instances": [_plain(row, optional="mask_score") for row in self.instances],
            "views": [_plain(row, optional="detections") for row in self.views],
            "degraded": self.degraded,
            "timings": dict(self.timings),
            "model_version": self.model_version,
        }

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """COCO results, one dict for each instance, under the data set's own `image_id`."""
        rows = []
        for found in self.instances:
            row = {
                "image_id": image_id,
                "category_id": found.category_id,
                "bbox": list(found.bbox),
                "score": found.score,
            }
            more = {"segmentation": found.segmentation, "mask_score": found.mask_score}
            rows.append(row | {key: value for key, value in more.items() if value is not None})
        return rows

    def to_instances(self, categories: "Categories") -> "Instances":
        """The answer as tis-ray's own `Instances`, labels as in `categories`, which `Client.categories()` returns.

        Masks are `RunMasks`, exact pixels without a full mask, or None where no instance has one. Raises `InputError`
        for an instance of a class that is not among them.
        """
        from tis_ray.serving.conversions import to_instances

        return to_instances(self, categories)

    def to_supervision(self, *, masks: bool | Literal["compact"] = False) -> "Detections":
        """The answer as `supervision.Detections`: boxes xyxy in image pixels, scores, category ids, names of classes.

        masks: False leaves them out. True makes bool (N, height, width), a byte for each pixel of the image and each
        instance: 2.8 GB for 300 instances in 3384 x 2710. "compact" makes a `supervision.CompactMask`, which is
        nearly as small as the answer. An instance without a mask has an empty one.

        `data["class_name"]` holds the names, `data["mask_score"]` the scores that rank masks: where no member predicts
        how well masks fit, those of the instances. Raises `ImportError` where supervision is missing.
        """
        from tis_ray.serving.conversions import to_supervision

        return to_supervision(self, masks=masks)

    def overlay(self, image: "Picture", *, score_threshold: float = 0.0) -> "Image":
        """The picture that was asked about with what was found drawn over it, as a Pillow image."""
        from tis_ray.overlay import draw_overlay
        from tis_ray.serving.pictures import pixels_of

        return draw_overlay(pixels_of(image), self.instances, score_threshold=score_threshold)


def _view(row: Mapping[str, Any]) -> ViewOutcome:
    crop, detections = row["crop"], row.get("detections")
    return _row(
        ViewOutcome,
        row,
        crop=None if crop is None else tuple(crop),
        detections=None if detections is None else tuple(detections),
    )


def _row(kind: type[_Row], row: Mapping[str, Any], **changed: Any) -> _Row:
    known = _names(kind)  # type: ignore[arg-type]  # mypy takes a type variable for no object
    return kind(**({key: value for key, value in row.items() if key in known} | changed))


@cache
def _names(kind: Any) -> frozenset[str]:
    return frozenset(field.name for field in fields(kind))


def _plain(row: FoundInstance | ViewOutcome, *, optional: str) -> dict[str, Any]:
    """The fields of a row, without `optional` where the service gave none."""
    plain = {name: getattr(row, name) for name in row.__slots__}
    if plain[optional] is None:
        del plain[optional]
    return plain
