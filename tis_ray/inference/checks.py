"""What is asked about, checked before anything is computed."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tis_ray.errors import InputError
from tis_ray.instances import Instances
from tis_ray.ops.boxes import Boxes


def check_image(image: NDArray[np.uint8]) -> None:
    """Raise `InputError` unless `image` is a uint8 array (H, W, 3) with at least one pixel."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        came = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise InputError(f"image: expected a uint8 RGB array (height, width, 3); got {came}")
    if image.size == 0:
        raise InputError(f"image: expected at least one pixel; got {image.shape}")


def check_boxes(boxes: Boxes, labels: NDArray[np.integer[Any]]) -> None:
    """Raise `InputError` unless boxes are float32 (N, 4) with finite x1 <= x2, y1 <= y2 and labels integers (N,)."""
    if not isinstance(boxes, np.ndarray) or boxes.dtype != np.float32 or boxes.ndim != 2 or boxes.shape[1] != 4:
        came = f"{boxes.dtype} {boxes.shape}" if isinstance(boxes, np.ndarray) else type(boxes).__name__
        raise InputError(f"boxes: expected a float32 array (N, 4); got {came}")
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iu" or labels.shape != (len(boxes),):
        came = f"{labels.dtype} {labels.shape}" if isinstance(labels, np.ndarray) else type(labels).__name__
        raise InputError(f"labels: expected an integer array ({len(boxes)},), one for each box; got {came}")
    Instances.of(boxes, np.ones(len(boxes)), np.zeros(len(boxes))).check_values(num_classes=1)
