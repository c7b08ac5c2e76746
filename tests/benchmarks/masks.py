"""Mask patches to COCO RLE in a 3384x2710 frame, and mask NMS, beside torchvision and pycocotools."""

import ctypes
import gc
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks import peers
from tests.benchmarks.generate import FRAME_HEIGHT, FRAME_WIDTH, views_of_boxes
from tests.benchmarks.resident import resident_mb
from tests.benchmarks.timing import Row, compare
from tis_ray.fusion.pool import Pool
from tis_ray.fusion.rules import mask_nms
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks, RunMasks

SIDE = 28


def patches_of(count: int, seed: int = 0) -> peers.Masks:
    """Blobs as a mask head draws them: a soft-edged ellipse of its own shape and place in each patch."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    centre, radius = rng.uniform(10, 18, (count, 2, 1, 1)), rng.uniform(6, 14, (count, 2, 1, 1))
    distance = np.hypot((y - centre[:, 0]) / radius[:, 0], (x - centre[:, 1]) / radius[:, 1])
    noise = rng.normal(0, 0.3, (count, SIDE, SIDE))
    return np.asarray(1 / (1 + np.exp(8 * (distance - 1) + noise)), dtype=np.float16)


def rows() -> list[Row]:
    """Patches to RLE at 100 and 500 masks, and mask NMS of 500."""
    table = []
    for count in (100, 500):
        boxes, masks = views_of_boxes(1, count).boxes, patches_of(count)
        own = BoxMasks(boxes, masks)
        table.append(
            compare(
                f"{count} patches to RLE",
                "torchvision paste + pycocotools",
                lambda masks=masks, boxes=boxes: peers.paste_and_encode(masks, boxes),
                lambda own=own: own.to_rle(FRAME_HEIGHT, FRAME_WIDTH),
                target=1000,
                repeats=25,
                peer_repeats=3 if count == 100 else 1,
            )
        )
    return [*table, _mask_nms_row()]


def _mask_nms_row() -> Row:
    found = views_of_boxes(20, 500, num_classes=1)
    instances = Instances.of(found.boxes, found.scores, found.labels, BoxMasks(found.boxes, patches_of(500)))
    runs = instances.masks.to_runs(FRAME_HEIGHT, FRAME_WIDTH)  # both get masks that are encoded already
    rles = [
        {"size": [FRAME_HEIGHT, FRAME_WIDTH], "counts": one["counts"].encode()}
        for one in instances.masks.to_rle(FRAME_HEIGHT, FRAME_WIDTH)
    ]
    instances = Instances.of(found.boxes, found.scores, found.labels, RunMasks(runs))
    pool = Pool.of(instances, image_hw=(FRAME_HEIGHT, FRAME_WIDTH))
    assert len(mask_nms.merge(instances, pool)) == len(peers.greedy_mask_nms(rles, found.scores, 0.5))
    return compare(
        "mask NMS of 500 masks",
        "pycocotools IoU + greedy",
        lambda: peers.greedy_mask_nms(rles, found.scores, 0.5),
        lambda: mask_nms.merge(instances, pool),
        target=30,
        repeats=40,
    )


def extra_memory_mb(count: int = 500) -> float:
    """Peak resident memory while `count` patches become RLEs, above that before, MB, in a fresh process. Linux only."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # what others gave back here would hide it
        return pool.apply(_extra_memory_mb, (count,))


def _extra_memory_mb(count: int) -> float:
    boxes, masks = views_of_boxes(1, count).boxes, patches_of(count)
    own = BoxMasks(boxes, masks)
    own[:1].to_rle(FRAME_HEIGHT, FRAME_WIDTH)  # compiles, and leaves no memory behind that the others could take
    return peak_mb(lambda: own.to_rle(FRAME_HEIGHT, FRAME_WIDTH))


def peak_mb(function: Callable[[], Any]) -> float:
    """Peak resident memory of this process during a call, above that before, MB, by the kernel's own mark."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what is free goes back, or the call could take it unseen
    Path("/proc/self/clear_refs").write_text("5")
    before = resident_mb("VmRSS")
    function()
    return resident_mb() - before
