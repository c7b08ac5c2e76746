"""One training step of `tis_r50` beside torchvision's Mask R-CNN on ResNet-50: images a second and peak memory.

    python -m tests.benchmarks.train_step [--size 800x1333] [--batch 8] [--steps 10] [--recipe tis_r50]

Both see the same random pictures with 30 objects each, under bfloat16 autocast on a GPU and in float32 on a CPU, with
SGD and channels-last weights. torchvision gets its full-frame masks on the device beforehand; our targets are made of
crops in every step, as in training. Data loading is left out. The first line is torchvision's own network assembled of
our parts, the second one the recipe itself, with its anchors. On a GPU each line ends with how often one step waited
for the device: in NMS, for the number of positives and of mask targets' points, for the losses and the gradients' norm.
"""

import argparse
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import maskrcnn_resnet50_fpn

from tests.benchmarks.timing import Timing
from tests.tiny import classes
from tis_ray.config import DetectorSection, load_recipe, parse
from tis_ray.data.loading import Batch
from tis_ray.instances import Annotations
from tis_ray.masks import CropMasks
from tis_ray.models.activation_checkpointing import checkpoint_activations
from tis_ray.models.assembly import build_detector, without_weights
from tis_ray.models.detector import Detector
from tis_ray.training.loop import train_step
from tis_ray.training.optim import build_optimizer
from tis_ray.training.to_device import ToDevice

OBJECTS, CLASSES, WARM_UP = 30, 80, 3
PLAIN = {"backbone": {"resnet50": {"norm": "frozen"}}}


def main() -> None:
    """Print one line for each network: seconds a step, images a second, peak memory, and the ratio to torchvision."""
    options = _options()
    height, width = map(int, options.size.lower().split("x"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch = make_batch(options.batch, (height, width))
    recipe = load_recipe(options.recipe)
    section = without_weights(recipe.detector)
    ours = {
        "the same network of our parts": (parse(DetectorSection, PLAIN, source="plain"), False),
        options.recipe: (section, False),
        f"{options.recipe}, activations checkpointed": (section, True),
    }
    print(f"{options.batch} x {height}x{width}, {OBJECTS} objects an image, {device}")
    theirs, notes = measure(lambda: torchvision_step(batch, device), options.steps, device)
    _line("torchvision's Mask R-CNN R50-FPN", theirs, notes, options.batch, theirs)
    for name, (detector, checkpointed) in ours.items():
        taken, notes = measure(
            lambda detector=detector, checkpointed=checkpointed: our_step(detector, batch, device, checkpointed),
            options.steps,
            device,
        )
        _line(name, taken, notes, options.batch, theirs)


def make_batch(count: int, size_hw: tuple[int, int]) -> Batch:
    """Random pictures of that size with objects of 8 to 200 px, whose masks are filled boxes."""
    height, width = size_hw
    rng = np.random.default_rng(0)
    images = [torch.from_numpy(rng.integers(0, 256, (3, height, width), dtype=np.uint8)) for _ in range(count)]
    return Batch(images, [_objects(rng, height, width) for _ in range(count)], list(range(count)))


def _objects(rng: np.random.Generator, height: int, width: int) -> Annotations:
    sides = np.exp(rng.uniform(np.log(8), np.log(min(200, height // 2, width // 2)), (OBJECTS, 2))).astype(np.int32)
    corners = (rng.random((OBJECTS, 2)) * ([width, height] - sides)).astype(np.int32)
    crops = tuple(np.ones((h, w), np.uint8) for w, h in sides.tolist())
    boxes = np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
    labels = rng.integers(0, CLASSES, OBJECTS).astype(np.int32)
    return Annotations(boxes, labels, CropMasks(corners, crops), np.zeros(OBJECTS, np.bool_))


def our_step(section: DetectorSection, batch: Batch, device: torch.device, checkpointed: bool) -> Callable[[], None]:
    """A step of our detector, as `tis-ray train` makes it."""
    detector: Detector = build_detector(section, classes(CLASSES)).to(device, memory_format=torch.channels_last).train()
    if checkpointed:
        checkpoint_activations(detector)
    optimizer = build_optimizer(detector, lr=1e-4, momentum=0.9, weight_decay=1e-4)
    to_device = ToDevice(device)
    return lambda: train_step(detector, [batch], optimizer, to_device=to_device, clip_grad_norm=10.0)


def torchvision_step(batch: Batch, device: torch.device) -> Callable[[], None]:
    """A step of torchvision's reference training at the pictures' own size."""
    height, width = batch.images[0].shape[-2:]
    sizes = {"min_size": min(height, width), "max_size": max(height, width)}
    model: nn.Module = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=CLASSES + 1, **sizes)
    model = model.to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4)
    images = [image.to(device) / 255 for image in batch.images]
    targets = [_full_frame(one, (height, width), device) for one in batch.annotations]

    def step() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            losses: dict[str, Tensor] = model(images, targets)
        optimizer.zero_grad(set_to_none=True)
        torch.stack([loss.float() for loss in losses.values()]).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()

    return step


def _full_frame(annotations: Annotations, size_hw: tuple[int, int], device: torch.device) -> dict[str, Tensor]:
    masks = np.zeros((len(annotations), *size_hw), np.uint8)
    for mask, crop, (x, y) in zip(masks, annotations.masks.crops, annotations.masks.offsets, strict=True):
        mask[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
    return {
        "boxes": torch.from_numpy(annotations.boxes).to(device),
        "labels": torch.from_numpy(annotations.labels).long().to(device) + 1,
        "masks": torch.from_numpy(masks).to(device),
    }


def count_waits(step: Callable[[], None]) -> int:
    """How often one step asks the GPU something and waits for the answer, as PyTorch warns of it."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(one.message) for one in caught)


def measure(make: Callable[[], Callable[[], None]], steps: int, device: torch.device) -> tuple[Timing, str]:
    """Seconds a step after a warm-up, and in words a GPU's peak memory and the waits; what was made is let go."""
    torch.manual_seed(0)
    step = make()
    gpu = device.type == "cuda"
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for i in range(WARM_UP + steps):
        start = time.perf_counter()
        step()
        if gpu:
            torch.cuda.synchronize()
        if i >= WARM_UP:
            seconds.append(time.perf_counter() - start)
    notes = f"{torch.cuda.max_memory_allocated() / 2**30:6.1f} GiB, {count_waits(step)} waits" if gpu else ""
    del step
    if gpu:
        torch.cuda.empty_cache()
    return Timing.of(seconds), notes


def _line(name: str, taken: Timing, notes: str, images: int, theirs: Timing) -> None:
    ratio = theirs.median / taken.median
    print(
        f"{name:48}  {taken.median:8.3f} s  {images / taken.median:7.2f} images/s  {ratio:5.2f}x  {notes}", flush=True
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="800x1333", help="height x width of the pictures")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--recipe", default="tis_r50")
    return parser.parse_args()


if __name__ == "__main__":
    main()
