"""The HTTP interface in types: what a request may ask for and what an answer holds. OpenAPI is made from these."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class SegmentQuery(BaseModel):
    """Query parameters of `/v1/segment`. An unknown one is refused: a misspelt name would otherwise do nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    score_threshold: Fraction = Field(0.0, description="Leave out instances with a lower score.", examples=[0.3])
    max_instances: int | None = Field(
        None, ge=1, description="At most so many, the highest scores first.", examples=[100]
    )
    masks: Literal["rle", "polygon", "none"] = Field("rle", description="How masks are written.", examples=["polygon"])
    deadline_s: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Seconds the answer may take; 504 after that.", examples=[10]
    )
    explain: bool = Field(False, description="Also what each view found by itself, before fusion.", examples=[True])


class Answer(BaseModel):
    """Base of what the service answers."""

    model_config = ConfigDict(frozen=True)


class ImageInfo(Answer):
    """The image as it was understood: stored pixels (EXIF orientation is ignored) and the SHA-256 of its bytes."""

    width: int
    height: int
    sha256: str


class Detection(Answer):
    """A category and its box: `bbox` is x, y, width, height in image pixels, `score` 0 to 1."""

    category_id: int
    category: str
    score: float = Field(ge=0, le=1)
    bbox: Annotated[list[float], Field(min_length=4, max_length=4)]


class Rle(Answer):
    """A mask as COCO's compressed run lengths, by columns: `size` is height and width of the image."""

    size: Annotated[list[int], Field(min_length=2, max_length=2)]
    counts: str


class Instance(Detection):
    """One instance of the answer.

    `segmentation` is COCO's compressed RLE, a list of polygons, or null; `area` the mask's pixels, or the box's
    area where there is no mask. `mask_score` is there where members predict how well masks fit: the score by which to
    rank the mask, while `score` ranks the box.
    """

    segmentation: Rle | list[list[int]] | None
    area: float
    mask_score: float | None = None


class TileInfo(Answer):
    """A grid of tiles over the whole image, in image pixels; neighbours share at least `overlap`."""

    width: int
    height: int
    overlap: int


class ViewInfo(Answer):
    """One view of the ensemble: of the whole image, of the box `crop` (x1, y1, x2, y2), or of a grid of tiles.

    `scale` is the shorter edge of the network input for whichever it is. `crop_name` is what the ensemble calls the
    crop or the grid.
    """

    member: str
    scale: int
    flip: bool
    crop: Annotated[list[int], Field(min_length=4, max_length=4)] | None
    tile: TileInfo | None
    crop_name: str | None


class ViewOutcome(ViewInfo):
    """How a view fared. `seconds` is the calls it was part of, `instances` how many it found before fusion.

    Of a view that gives masks alone, `instances` is for how many of the fused boxes it gave one. `detections` are those
    instances, with `explain=true`.
    """

    status: Literal["ok", "error", "timeout"]
    seconds: float
    instances: int
    detections: list[Detection] | None = None


class Timings(Answer):
    """Seconds from the whole body received: decoding, waiting for all views, then for the masks of the fused boxes
    (0 where no view is asked for those), fusing, writing masks, and all of it."""

    decode_s: float
    views_s: float
    masks_s: float
    fusion_s: float
    encode_s: float
    total_s: float


class SegmentAnswer(Answer):
    """The answer of `/v1/segment`. `degraded` is true where a view is missing from it."""

    image: ImageInfo
    instances: list[Instance]
    views: list[ViewOutcome]
    degraded: bool
    timings: Timings
    model_version: str


class Category(Answer):
    """One class, as COCO writes it, with what training counted of it where that is known."""

    model_config = ConfigDict(frozen=True, extra="allow")

    id: int
    name: str


class EnsembleAnswer(Answer):
    """The answer of `/v1/ensemble`: what runs here, with COCO's `categories` and the fusion section in force.

    `fusion_refused` says why a later fusion section was not taken.
    """

    model_version: str
    views: list[ViewInfo]
    deployments: list[str]
    categories: list[Category]
    fusion: dict[str, Any]
    fusion_refused: str | None
    quorum: dict[str, Any]
    limits: dict[str, Any]


class AliveAnswer(Answer):
    """The answer of `/healthz`."""

    status: Literal["alive"]


class ReadyAnswer(Answer):
    """The answer of `/readyz`: ready once every deployment has answered a warm-up image; else what is missing."""

    ready: bool
    detail: str


class Problem(BaseModel):
    """Every error, RFC 9457: `field`, `expected` and `got` where one value of the request is at fault."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
    expected: str | None = None
    got: str | None = None
