"""OpenVINO's soft-NMS: the fastest exact one that comes as a wheel. Only `make benchmarks` installs and needs it."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks import peers
from tests.benchmarks.generate import Detections

Kept = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]  # positions, labels and decayed scores (K,)


def is_installed() -> bool:
    """Whether OpenVINO is there to be compared with."""
    return find_spec("openvino") is not None


def nms_then_soft_nms(
    found: Detections, num_classes: int, *, iou_threshold: float, sigma: float, min_score: float
) -> Callable[[], Kept]:
    """torchvision's class-wise NMS, then OpenVINO's gaussian soft-NMS of what is left, best first."""
    nms = peers.torchvision_nms(found, iou_threshold)
    request = _soft_nms(num_classes, len(found.boxes), sigma, min_score)

    def run() -> Kept:
        kept = nms().numpy()
        scores = np.zeros((1, num_classes, len(kept)), dtype=np.float32)  # it takes a score of each box for each class
        scores[0, found.labels[kept], np.arange(len(kept))] = found.scores[kept]
        request.infer([found.boxes[None, kept], scores], share_inputs=True)
        chosen, decayed, (count,) = (request.get_output_tensor(i).data for i in range(3))
        return kept[chosen[:count, 2]], chosen[:count, 1].copy(), decayed[:count, 2].copy()

    return run


def _soft_nms(num_classes: int, most: int, sigma: float, min_score: float) -> Any:
    """An inference request on one thread: boxes (1, N, 4) and scores (1, C, N) to what is left and its scores."""
    import openvino  # not in the lock
    from openvino import opset13 as ops

    boxes = ops.parameter([1, -1, 4], np.float32)
    scores = ops.parameter([1, num_classes, -1], np.float32)
    left = ops.non_max_suppression(
        boxes,
        scores,
        ops.constant(np.int64(most)),
        ops.constant(np.float32(1)),  # no box is dropped for its IoU
        ops.constant(np.float32(min_score)),
        ops.constant(np.float32(sigma / 2)),  # its factor is exp(-IoU^2 / (2 sigma)), the paper's exp(-IoU^2 / sigma)
    )
    model = openvino.Model(left.outputs(), [boxes, scores])
    return openvino.Core().compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1}).create_infer_request()
