"""The detector section of a recipe: one choice per part."""

from typing import Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from tis_ray.config.section import Choice, Fraction, Part, Section

Norm = Literal["batch", "group"]


class RpnSection(Section):
    """Region proposal network: its convolutions, IoU bounds of anchor matching, sampling and proposal counts."""

    convs: PositiveInt = 1
    positive_iou: Fraction = 0.7
    negative_iou: Fraction = 0.3
    samples_per_image: PositiveInt = 256
    positive_fraction: Fraction = 0.5
    nms_iou: Fraction = 0.7
    pre_nms_top_n_train: PositiveInt = 2000
    post_nms_top_n_train: PositiveInt = 2000
    pre_nms_top_n_test: PositiveInt = 1000
    post_nms_top_n_test: PositiveInt = 1000

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.negative_iou > self.positive_iou:
            raise ValueError(f"expected negative_iou <= positive_iou; got {self.negative_iou} > {self.positive_iou}")
        return self


class BoxSection(Section):
    """Second stage: the box head, RoI sampling and the post-processing of one view."""

    pool_size: PositiveInt = 7
    head: Part = Choice(name="mlp")
    positive_iou: Fraction = 0.5
    samples_per_image: PositiveInt = 512
    positive_fraction: Fraction = 0.25
    score_threshold: Fraction = 0.05
    nms_iou: Fraction = 0.5
    max_instances: PositiveInt = 100


class MaskSection(Section):
    """Mask branch: RoI grid before up-sampling (the patch has twice its side), convolution widths and their norm."""

    pool_size: PositiveInt = 14
    channels: tuple[PositiveInt, ...] = Field(default=(256, 256, 256, 256), min_length=1)
    norm: Norm | None = None


class DetectorSection(Section):
    """The detector, one choice per part; `mask: null` leaves the mask branch out.

    `roi_levels` is the rule by which a region's size picks the pyramid level it is pooled from: Lin et al.'s (`fpn`),
    or the level whose anchors are nearest in size (`pyramid`, after TIS, WAD 2018).
    """

    backbone: Part
    neck: Part = Choice(name="fpn")
    anchors: Part = Choice(name="exact")
    roi_levels: Literal["fpn", "pyramid"] = "fpn"
    rpn: RpnSection = RpnSection()
    box: BoxSection = BoxSection()
    mask: MaskSection | None = MaskSection()
    pixel_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    pixel_std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (0.229, 0.224, 0.225)
