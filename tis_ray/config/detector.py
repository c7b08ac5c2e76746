"""The detector section of a recipe: one choice per part."""

from typing import Annotated, Literal, Self

from pydantic import Field, FiniteFloat, PositiveInt, model_validator

from tis_ray.config.section import Choice, Fraction, Part, Section

Norm = Literal["batch", "sync", "group"]
# At 1 even equal boxes would both stay; what is to be left out is then not suppressed either.
NmsIou = Annotated[float, Field(ge=0, lt=1)]
PositiveFinite = Annotated[float, Field(gt=0, allow_inf_nan=False)]
DeltaWeights = tuple[PositiveFinite, PositiveFinite, PositiveFinite, PositiveFinite]


class SampledSection(Section):
    """Training examples of an image, and the share of them that may be positive."""

    samples_per_image: PositiveInt
    positive_fraction: Fraction

    @model_validator(mode="after")
    def _check_positives(self) -> Self:
        if self.samples_per_image * self.positive_fraction < 1:
            raise ValueError(
                f"positive_fraction: expected room for a positive among {self.samples_per_image} samples; "
                f"got {self.positive_fraction}"
            )
        return self


class RpnSection(SampledSection):
    """Region proposal network: its convolutions, how anchors are matched and sampled, and proposal counts.

    unlabelled_iou: from this IoU with a box of `data.train.unlabelled` on no anchor is a negative; null asks nothing of
                    anchors, whose boxes are nobody's yet
    """

    convs: PositiveInt = 1
    matching: Part = Choice(name="iou")
    samples_per_image: PositiveInt = 256
    positive_fraction: Fraction = 0.5
    nms_iou_train: NmsIou = 0.7
    nms_iou_test: NmsIou = 0.7
    pre_nms_top_n_train: PositiveInt = 2000
    post_nms_top_n_train: PositiveInt = 2000
    pre_nms_top_n_test: PositiveInt = 1000
    post_nms_top_n_test: PositiveInt = 1000
    unlabelled_iou: Annotated[float, Field(gt=0, le=1)] | None = None


class CascadeSection(Section):
    """Further box heads after the first, each trained and run on the boxes that the one before refined.

    ious:            each one's bound of a positive, after `box.positive_iou` of the first head
    delta_weights:   of all heads, the first one's too; by default (10, 10, 5, 5) times 1, 2, 3, ...
    loss_weights:    of all heads; by default 1 each
    scale_gradients: the heads' gradients into the pyramid are divided by their number
    """

    ious: tuple[Fraction, ...] = Field(default=(0.6, 0.7), min_length=1)
    delta_weights: tuple[DeltaWeights, ...] | None = None
    loss_weights: tuple[PositiveFinite, ...] | None = None
    scale_gradients: bool = True

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        for name in ("delta_weights", "loss_weights"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.ious) + 1:
                raise ValueError(
                    f"{name}: expected {len(self.ious) + 1}, one for each head with the first; got {len(values)}"
                )
        return self


class ContextSection(Section):
    """Each region is seen with what surrounds it: pooled again, enlarged by `factor` about its centre."""

    factor: float = Field(default=1.5, gt=1, allow_inf_nan=False)
    merge: Literal["concat", "add"] = "concat"


class BoxSection(SampledSection):
    """Second stage: heads, RoI sampling and the post-processing of one view.

    class_agnostic: one box for all classes rather than one for each; by default so in a cascade
    max_candidates: that many best pairs of region and class of an image enter NMS
    """

    pooling: Part = Choice(name="align")
    pool_size: PositiveInt = 7
    head: Part = Choice(name="mlp")
    classification: Part = Choice(name="softmax")
    sampling: Part = Choice(name="random")
    context: ContextSection | None = None
    cascade: CascadeSection | None = None
    class_agnostic: bool | None = None
    positive_iou: Fraction = 0.5
    samples_per_image: PositiveInt = 512
    positive_fraction: Fraction = 0.25
    score_threshold: Fraction = 0.05
    nms_iou: NmsIou = 0.5
    max_candidates: PositiveInt = 10_000
    max_instances: PositiveInt = 100

    @model_validator(mode="after")
    def _check_cascade(self) -> Self:
        if self.cascade is not None and self.class_agnostic is False:
            raise ValueError(
                "class_agnostic: expected true or nothing beside cascade, whose boxes are of no class yet; got false"
            )
        return self


class AreaRatioSection(Section):
    """Mask regions are pooled from a finer level the less of its box a mask fills (LVIS 2020).

    beta: at 0.5 the level is that of a box of the mask's area, at 1 that of the mask's mean thickness
    """

    beta: float = Field(default=0.5, gt=0, allow_inf_nan=False)


class RescoreSection(Section):
    """A second head predicts how well each mask fits (Mask Scoring R-CNN, Huang et al. 2019; MegDetV2's two convs)."""

    convs: PositiveInt = 2
    channels: PositiveInt = 256
    hidden: PositiveInt = 1024


class MaskCascadeSection(Section):
    """A mask head for each head of `box.cascade`, learning on its boxes (Hybrid Task Cascade, Chen et al. 2019).

    information_flow: each mask head is given what the one before has found
    """

    information_flow: bool = True


class MaskSection(Section):
    """Mask branch: RoI pool and its grid (patches mostly have twice its side), head and loss.

    `only_in_training` lets masks teach the features and then leaves them out: boxes are the same, masks are absent.
    """

    pooling: Part = Choice(name="align")
    pool_size: PositiveInt = 14
    head: Part = Choice(name="convs")
    loss: Part = Choice(name="bce")
    area_ratio: AreaRatioSection | None = None
    rescore: RescoreSection | None = None
    cascade: MaskCascadeSection | None = None
    only_in_training: bool = False

    @model_validator(mode="after")
    def _check_rescore(self) -> Self:
        if self.rescore is not None and self.only_in_training:
            raise ValueError(
                "rescore: expected nothing beside only_in_training, whose masks nobody sees; got a section"
            )
        return self


class StuffSection(Section):
    """A branch that learns what the background consists of, in training alone (COCO's stuff; Chen et al. 2019).

    num_classes: values of the label maps, 0 to one less; 255 stands for unknown
    weight:      of its loss
    """

    num_classes: int = Field(default=183, ge=2, le=255)
    convs: PositiveInt = 4
    channels: PositiveInt = 256
    weight: PositiveFinite = 0.2


class DetectorSection(Section):
    """The detector, one choice per part; `mask: null` leaves the mask branch out, `stuff` adds a branch.

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
    stuff: StuffSection | None = None
    pixel_mean: tuple[FiniteFloat, FiniteFloat, FiniteFloat] = (0.485, 0.456, 0.406)
    pixel_std: tuple[PositiveFinite, PositiveFinite, PositiveFinite] = (0.229, 0.224, 0.225)

    @model_validator(mode="after")
    def _check_mask_cascade(self) -> Self:
        if self.mask is not None and self.mask.cascade is not None and self.box.cascade is None:
            raise ValueError("mask.cascade: expected box.cascade beside it, a mask head for each of its heads")
        return self
