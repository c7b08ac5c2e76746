"""From a recipe's `detector` section to the detector: which part is made of what."""

import torch
from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator

from tis_ray.config import (
    AreaRatioSection,
    CascadeSection,
    Choice,
    DetectorSection,
    MaskSection,
    RpnSection,
    StuffSection,
)
from tis_ray.errors import ConfigError
from tis_ray.instances import Categories
from tis_ray.models.area_ratio import AreaRatio
from tis_ray.models.backbones._weights import check_weights
from tis_ray.models.box_stage import BoxStage
from tis_ray.models.class_rows import BACKGROUND, ClassRows, with_class_rows
from tis_ray.models.context import ContextPooling
from tis_ray.models.detector import Detector
from tis_ray.models.mask_branch import MaskBranch, information_flow
from tis_ray.models.mask_iou import MaskIoU
from tis_ray.models.parts import part
from tis_ray.models.postprocess import Postprocess
from tis_ray.models.pyramid_align import Pyramid, PyramidRoIAlign
from tis_ray.models.roi_heads import RoiHeads
from tis_ray.models.roi_levels import level_rule
from tis_ray.models.roi_pooling import RoiPool
from tis_ray.models.rpn import Float32Head, ProposalNetwork
from tis_ray.models.stuff import StuffBranch

FIRST_DELTA_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # of a first box head; later ones' deltas are that much smaller
FEWEST = Categories((1,), ("object",))


def build_detector(section: DetectorSection, categories: Categories) -> Detector:
    """Assemble the detector that a recipe's `detector` section names, with random weights but for its backbone's.

    `categories` are the classes, and how often each was seen in training where parts ask for that. Raises
    `ConfigError` for an unknown part or option, and for parts that do not go together.
    """
    backbone = part("backbones", section.backbone, key="detector.backbone")
    neck = part("necks", section.neck, backbone.channels, key="detector.neck")
    shared = _last_stage(backbone, section) if neck.leaves_last_stage else None
    anchors = part("anchors", section.anchors, neck.strides, key="detector.anchors")
    heads = _Heads(section, neck, anchors, shared, categories)
    return Detector(
        backbone,
        neck,
        _build_rpn(section.rpn, anchors, neck.out_channels),
        heads.build(),
        None if section.stuff is None else _stuff_branch(section.stuff, neck),
        pixel_mean=section.pixel_mean,
        pixel_std=section.pixel_std,
    )


def check_parts(section: DetectorSection) -> None:
    """Raise `ConfigError` for an unknown part or option or for parts that do not go together.

    Nothing is computed and no weights are read: the detector is put together without memory behind it. Of weights by
    name it is only asked whether there are such.
    """
    with torch.device("meta"):
        build_detector(without_weights(section), FEWEST)
    name, options = section.backbone.name, section.backbone.options
    check_weights(options.get("weights"), name, key=f"detector.backbone.{name}.weights")


def without_weights(section: DetectorSection) -> DetectorSection:
    """The section whose backbone starts from nothing; its file may be gone."""
    options = {key: value for key, value in section.backbone.options.items() if key != "weights"}
    return section.model_copy(update={"backbone": Choice(name=section.backbone.name, options=options)})


def _last_stage(backbone: nn.Module, section: DetectorSection) -> nn.Module:
    if not hasattr(backbone, "take_last_stage"):
        raise ConfigError(
            f"detector.neck: {section.neck.name} expects a backbone that hands over its last stage, as the ResNets do; "
            f"got {section.backbone.name}"
        )
    return backbone.take_last_stage()


def _build_rpn(section: RpnSection, anchors: AnchorGenerator, channels: int) -> ProposalNetwork:
    return ProposalNetwork(
        anchors,
        Float32Head(channels, anchors.num_anchors_per_location()[0], conv_depth=section.convs),
        matcher=part("anchor_matching", section.matching, key="detector.rpn.matching"),
        samples_per_image=section.samples_per_image,
        positive_fraction=section.positive_fraction,
        nms_iou_train=section.nms_iou_train,
        nms_iou_test=section.nms_iou_test,
        pre_nms_top_n_train=section.pre_nms_top_n_train,
        pre_nms_top_n_test=section.pre_nms_top_n_test,
        post_nms_top_n_train=section.post_nms_top_n_train,
        post_nms_top_n_test=section.post_nms_top_n_test,
        unlabelled_iou=section.unlabelled_iou,
    )


def _stuff_branch(section: StuffSection, neck: nn.Module) -> StuffBranch:
    return StuffBranch(neck.out_channels, neck.strides[: neck.roi_levels], **section.model_dump())


class _Heads:
    """The second stage's assembly; what its parts need of the first."""

    def __init__(
        self,
        section: DetectorSection,
        neck: nn.Module,
        anchors: AnchorGenerator,
        shared: nn.Module | None,
        categories: Categories,
    ) -> None:
        self.box, self.mask = section.box, section.mask
        strides = neck.strides[: neck.roi_levels]
        self.pyramid = Pyramid(neck.out_channels, strides, level_rule(section.roi_levels, anchors.sizes, strides))
        self.shared = shared
        self.categories = categories

    def build(self) -> RoiHeads:
        """Box stages and mask branch over the neck's levels."""
        box, cascade = self.box, self.box.cascade
        count = 1 if cascade is None else len(cascade.ious) + 1
        return RoiHeads(
            [self._stage(weights) for weights in _delta_weights(cascade, count)],
            None if self.mask is None else self._mask_branch(self.mask, count if self.mask.cascade else 1),
            shared=nn.Identity() if self.shared is None else self.shared,
            sampler=part("roi_sampling", box.sampling, key="detector.box.sampling"),
            samples_per_image=box.samples_per_image,
            positive_fraction=box.positive_fraction,
            ious=(box.positive_iou, *(() if cascade is None else cascade.ious)),
            loss_weights=(cascade and cascade.loss_weights) or (1.0,) * count,
            scale_gradients=cascade is not None and cascade.scale_gradients,
            postprocess=Postprocess(
                score_threshold=box.score_threshold,
                nms_iou=box.nms_iou,
                max_candidates=box.max_candidates,
                max_instances=box.max_instances,
            ),
        )

    def _stage(self, delta_weights: tuple[float, ...]) -> BoxStage:
        box = self.box
        pool = part("roi_pooling", box.pooling, self.pyramid, box.pool_size, key="detector.box.pooling")
        if self.shared is not None and not self._fits_shared(pool):
            raise ConfigError(
                f"detector.box.pooling: the backbone's last stage, which the neck leaves to the heads, expects regions "
                f"of {self.pyramid.channels} channels; got {pool.out_channels} from {box.pooling.name}"
            )
        head = part("box_heads", box.head, *self._regions(pool), key="detector.box.head")
        agnostic = box.class_agnostic or (box.class_agnostic is None and box.cascade is not None)
        return BoxStage(
            pool if box.context is None else ContextPooling(pool, **box.context.model_dump()),
            head,
            part(
                "classification",
                box.classification,
                head.class_channels,
                self.categories,
                key="detector.box.classification",
            ),
            nn.Linear(head.box_channels, 4) if agnostic else self._class_boxes(head.box_channels),
            delta_weights=delta_weights,
        )

    def _class_boxes(self, channels: int) -> nn.Module:
        return with_class_rows(nn.Linear(channels, 4 * (len(self.categories) + 1)), ClassRows((BACKGROUND,), width=4))

    def _fits_shared(self, pool: RoiPool) -> bool:
        """Whether the shared stage can follow the pool."""
        return pool.out_channels == self.pyramid.channels

    def _regions(self, pool: RoiPool) -> tuple[int, int]:
        """Channels and side of what a head sees: a shared stage halves the side."""
        if self.shared is None or not self._fits_shared(pool):
            return pool.out_channels, pool.output_size
        return self.shared.out_channels, -(-pool.output_size // 2)

    def _mask_branch(self, section: MaskSection, count: int) -> MaskBranch:
        pool = part("roi_pooling", section.pooling, self.pyramid, section.pool_size, key="detector.mask.pooling")
        channels, size = self._regions(pool)
        num_classes = len(self.categories)
        heads = [
            part("mask_heads", section.head, channels, size, num_classes, key="detector.mask.head")
            for _ in range(count)
        ]
        told = section.cascade is not None and section.cascade.information_flow
        return MaskBranch(
            pool,
            heads,
            part("mask_losses", section.loss, key="detector.mask.loss"),
            flows=[information_flow(head.channels, channels) for head in heads[:-1]] if told else (),
            finest=self._finest(heads[0].finest_size, channels, section.head.name, beside=pool),
            area_ratio=None if section.area_ratio is None else self._area_ratio(section.area_ratio),
            rescore=section.rescore and MaskIoU(channels, size, num_classes, **section.rescore.model_dump()),
            takes_shared=self.shared is not None and self._fits_shared(pool),
            only_in_training=section.only_in_training,
        )

    def _area_ratio(self, section: AreaRatioSection) -> AreaRatio:
        if len(self.pyramid.strides) == 1:
            raise ConfigError(
                "detector.mask.area_ratio: expected a neck of several levels; got one with a single level"
            )
        priors = self.categories.area_ratios or (1.0,) * len(self.categories)
        return AreaRatio(self.pyramid.levels, priors, beta=section.beta)

    def _finest(self, size: int | None, channels: int, head: str, *, beside: RoiPool) -> RoiPool | None:
        """What pools from the finest level, at the side that mask heads ask for, the places that `beside` reads."""
        if size is None:
            return None
        if channels != self.pyramid.channels:
            raise ConfigError(
                f"detector.mask.head: {head} also reads the pyramid's finest level, and expects regions of as many "
                f"channels, {self.pyramid.channels}; got {channels} (boundary_light reads regions alone)"
            )
        aligned = getattr(beside, "aligned", True)  # half a pixel of a coarse level is many of the finest
        return PyramidRoIAlign(self.pyramid._replace(strides=self.pyramid.strides[:1]), size, aligned=aligned)


def _delta_weights(cascade: CascadeSection | None, count: int) -> tuple[tuple[float, ...], ...]:
    """Each stage's; the more exact its boxes are, the smaller the deltas that are left to learn."""
    if cascade is not None and cascade.delta_weights is not None:
        return cascade.delta_weights
    return tuple(tuple(weight * (stage + 1) for weight in FIRST_DELTA_WEIGHTS) for stage in range(count))
