"""Peak memory of one 3384x2710 frame with 500 instances, masks to COCO RLE included, beside torchvision's paste.

    python -m tests.benchmarks.frame_memory

Each way runs in a process of its own with the same checkpoint, frame and instances. Printed is the peak of resident
memory above that of the process with its loaded model: while the frame is predicted, while masks are written, and the
greater of both. Linux only: the peak is reset through /proc.
"""

import ctypes
import gc
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.benchmarks.resident import resident_mb
from tis_ray.config import Ensemble
from tis_ray.instances import Instances

HEIGHT, WIDTH, INSTANCES = 2710, 3384, 500
CHUNK = 100  # masks that torchvision pastes at once: all 500, as its detectors do it, would be 36 GB


def main() -> None:
    """Measure each way in a fresh process and print a table."""
    with tempfile.TemporaryDirectory() as folder:
        ensemble = make_ensemble(Path(folder))
        rows = {}
        for way in (to_rle, torchvision_one_at_a_time, torchvision_paste):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                rows[way.__name__] = pool.apply(measure, (ensemble, way))
    print(f"{'masks written by':26} {'predict, MB':>12} {'masks, MB':>12} {'both, MB':>12} {'seconds':>9} {'masks':>6}")
    for name, row in rows.items():
        peaks = (row["predict_mb"], row["masks_mb"], max(row["predict_mb"], row["masks_mb"]))
        print(f"{name:26} " + " ".join(f"{mb:12.0f}" for mb in peaks) + f" {row['seconds']:9.2f} {row['masks']:6}")


def make_ensemble(folder: Path) -> Ensemble:
    """One randomly initialised member that finds 500 instances at one scale."""
    from tests.tiny import TINY_DETECTOR, save_tiny_checkpoint

    rpn = {"pre_nms_top_n_test": 4000, "post_nms_top_n_test": 3000, "nms_iou_test": 0.9}
    box = {**TINY_DETECTOR["box"], "max_instances": INSTANCES, "nms_iou": 0.9}
    detector = {**TINY_DETECTOR, "anchors": "pyramid", "rpn": rpn, "box": box}
    save_tiny_checkpoint(folder / "member", detector=detector)
    content = {
        "members": {"tiny": {"checkpoint": str(folder / "member"), "scales": [1355], "flip": False}},
        "fusion": {"rules": [], "top_k": INSTANCES},
    }
    return Ensemble.model_validate(content)


def measure(ensemble: Ensemble, way: Callable[[Instances], int]) -> dict[str, float]:
    """Seconds of writing masks, number of masks, and peak MB above the process with the model loaded and warm."""
    import torch

    import tis_ray

    torch.set_num_threads(1)
    predictor = tis_ray.load(ensemble, device="cpu")
    small = predictor.predict(np.zeros((64, 96, 3), np.uint8))
    way(small)  # compiles the kernels
    frame = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    loaded = reset_peak()
    instances = predictor.predict(frame)
    predict_mb = resident_mb("VmHWM") - loaded
    reset_peak()
    start = time.perf_counter()
    masks = way(instances)
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "masks": masks,
        "predict_mb": predict_mb,
        "masks_mb": resident_mb("VmHWM") - loaded,
    }


def reset_peak() -> float:
    """Let `VmHWM` start anew from the memory that is resident now, which is returned in MB."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # freed memory that the allocator keeps would count as resident
    Path("/proc/self/clear_refs").write_text("5")
    return resident_mb("VmRSS")


def to_rle(instances: Instances) -> int:
    """RLE straight from the patches."""
    return len(instances.masks.to_rle(HEIGHT, WIDTH))


def torchvision_paste(instances: Instances, *, chunk_size: int = CHUNK) -> int:
    """torchvision's full-frame masks, thresholded, encoded by pycocotools; `chunk_size` masks at a time."""
    import pycocotools.mask as coco_mask
    import torch
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    rles = []
    for first in range(0, len(instances), chunk_size):
        chunk = instances[first : first + chunk_size]
        probabilities = torch.from_numpy(chunk.masks.probabilities.astype(np.float32))[:, None]
        pasted = paste_masks_in_image(probabilities, torch.from_numpy(chunk.masks.boxes), (HEIGHT, WIDTH))
        rles += [coco_mask.encode(np.asfortranarray(mask)) for mask in (pasted[:, 0] > 0.5).numpy().astype(np.uint8)]
    return len(rles)


def torchvision_one_at_a_time(instances: Instances) -> int:
    """The same with the least memory."""
    return torchvision_paste(instances, chunk_size=1)


if __name__ == "__main__":
    main()
