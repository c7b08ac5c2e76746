"""The merge rules on the boxes of 20 views of one frame, 4000 in all, beside the libraries that have such rules."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.benchmarks import openvino_peer, peers
from tests.benchmarks.generate import FRAME_HEIGHT, FRAME_WIDTH, Detections, views_of_boxes
from tests.benchmarks.timing import Row, compare
from tis_ray import menu
from tis_ray.fusion.pool import Pool
from tis_ray.instances import Instances

CLASSES = (7, 80, 1203)


def rows(num_classes: int) -> list[Row]:
    """Every rule that a peer has too, on boxes of `num_classes` classes."""
    found = views_of_boxes(20, 4000, num_classes)
    ensemble = peers.ensemble_boxes_rule
    table = [
        compare(
            "nms 0.5",
            "torchvision batched_nms",
            peers.torchvision_nms(found, 0.5),
            rule(found, nms={"iou_threshold": 0.5}),
            target=2,
            repeats=40,
        ),
        compare(
            "soft_nms linear",
            "ensemble-boxes soft_nms (time only: its scores are not decayed)",
            ensemble("soft_nms", found, method=1, iou_thr=0.5, thresh=1e-4),
            rule(found, soft_nms={"iou_threshold": 0.5, "min_score": 1e-4}),
            target=25,
        ),
        compare(
            "wbf 0.55",
            "ensemble-boxes weighted_boxes_fusion",
            ensemble("weighted_boxes_fusion", found, iou_thr=0.55),
            rule(found, wbf={"iou_threshold": 0.55}),
            target=40,
        ),
        compare(
            "nmw 0.55",
            "ensemble-boxes non_maximum_weighted",
            ensemble("non_maximum_weighted", found, iou_thr=0.55),
            rule(found, nmw={"iou_threshold": 0.55}),
            target=40,
        ),
    ]
    return [*table, _nms_then_soft_nms(found, num_classes)] if openvino_peer.is_installed() else table


def _nms_then_soft_nms(found: Detections, num_classes: int) -> Row:
    sigma, min_score = 0.5, 1e-4
    theirs = openvino_peer.nms_then_soft_nms(found, num_classes, iou_threshold=0.7, sigma=sigma, min_score=min_score)
    ours = rule(
        found, nms={"iou_threshold": 0.7}, soft_nms={"method": "gaussian", "sigma": sigma, "min_score": min_score}
    )
    (positions, labels, scores), merged = theirs(), ours()
    assert np.array_equal(merged.boxes, found.boxes[positions]), "the two keep other boxes"
    assert np.array_equal(merged.labels, labels), "the two keep other labels"
    assert np.abs(merged.scores - scores).max() < 1e-5, "the two give other scores"
    return compare(
        "nms 0.7, then soft_nms gaussian",
        "torchvision batched_nms, then OpenVINO NonMaxSuppression",
        theirs,
        ours,
        target=3,
        repeats=40,
    )


def rule(found: Detections, **named: dict[str, Any]) -> Callable[[], Instances]:
    """Rules by name and options, one after the other, as the fusion calls them."""
    instances = Instances.of(found.boxes, found.scores, found.labels, source=found.source)
    pool = Pool.of(instances, image_hw=(FRAME_HEIGHT, FRAME_WIDTH))
    merges = [
        (menu.pick("tis_ray.fusion.rules", "merge", name, key="rule"), options) for name, options in named.items()
    ]

    def merge() -> Instances:
        merged = instances
        for function, options in merges:
            merged = function(merged, pool, **options)
        return merged

    return merge
