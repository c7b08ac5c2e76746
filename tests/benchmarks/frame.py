"""Seconds for a 3384 x 2710 frame in 20 views of one R50-FPN Mask R-CNN, beside the floor and torchvision's views.

    python -m tests.benchmarks.frame [--size 3384x2710] [--scales 1810:4510:300] [--rounds 5] [--compile] [--over-http]

Random weights and no score threshold, so that every view answers with its 100 best instances, masks included. In one
process, one after the other in each round: our predictor without graphs and, with `--compile`, with them; backbone and
neck alone over the same batches, plain and compiled, the floor of all that; and torchvision's own model view by view,
without the masks pasted into the frame, its own mirrored view computed anew. On a GPU all of it is bfloat16, on a CPU
float32: there it only shows that the benchmark runs, so give it `--size 160x120 --scales 64:96:32 --rounds 1`.

A second table says where the time of a frame goes: each stage waited for, so that the sum is more than the whole takes.

With `--over-http` the same frame, as a JPEG of some 3 MB, goes through a service on this machine, several requests in
flight at any time: with all views of the member in one deployment, and with one deployment for each scale.
"""

import argparse
import io
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torchvision.models.detection import maskrcnn_resnet50_fpn

from tests.benchmarks import frame_over_http
from tests.benchmarks.timing import Timing
from tests.tiny import classes
from tis_ray.config import DetectorSection, parse
from tis_ray.formats.images import decode_image
from tis_ray.inference import forwards, pictures
from tis_ray.inference.batches import batches_of
from tis_ray.inference.precision import round_weights
from tis_ray.inference.predictor import Predictor
from tis_ray.models.assembly import build_detector
from tis_ray.models.detector import Detector
from tis_ray.views import View

CLASSES, INSTANCES, TARGET_S = 80, 100, 0.40
DETECTOR = {
    "backbone": {"resnet50": {"norm": "frozen"}},
    "box": {"score_threshold": 0.0, "max_instances": INSTANCES},
}
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPE = torch.bfloat16 if DEVICE.type == "cuda" else torch.float32


def main() -> None:
    """Print the tables."""
    options = _options()
    width, height = map(int, options.size.lower().split("x"))
    first, last, step = map(int, options.scales.split(":"))
    scales = range(first, last + 1, step)
    jpeg = frame((height, width))
    print(f"{width}x{height}, {len(jpeg) / 1e6:.1f} MB, {2 * len(scales)} views of {list(scales)} px on {_device()}")
    if options.over_http:
        frame_over_http.measure(
            DETECTOR, classes(CLASSES), jpeg, scales, requests=10 * options.rounds, compiled=options.compile
        )
        return
    in_process(jpeg, scales, rounds=options.rounds, compiled=options.compile)


def in_process(jpeg: bytes, scales: range, *, rounds: int, compiled: bool) -> None:
    """Everything but HTTP, each way once in each round."""
    image = decode_image(jpeg, max_pixels=None)
    image_hw = (image.shape[0], image.shape[1])
    views = [View("r50", scale, flip) for scale in scales for flip in (False, True)]
    ours = {"tis-ray": predictor()}
    if compiled:
        ours["tis-ray, compiled"] = predictor()
        ours["tis-ray, compiled"].compile()
    for name, one in ours.items():
        start = time.perf_counter()
        one.warm_up([image_hw], views)
        print(f"{name}: warm-up {time.perf_counter() - start:.1f} s")
    last = list(ours.values())[-1]
    ways: dict[str, Callable[[], Any]] = {
        name: lambda one=one: one.predict(decode_image(jpeg, max_pixels=None), views) for name, one in ours.items()
    }
    ways["backbone and neck alone"] = floor(ours["tis-ray"].detector, image_hw, views)
    if compiled:
        ways["backbone and neck alone, compiled: the floor"] = floor(last.detector, image_hw, views)
    ways["torchvision, view by view, nothing pasted"] = torchvision_views(image, scales)
    taken = {name: Timing.of(seconds) for name, seconds in in_turn(ways, rounds).items()}
    _print_ways(taken, floor_s=[one.median for name, one in taken.items() if name.startswith("backbone")][-1])
    _print_stages(stages(last, jpeg, views))
    if DEVICE.type == "cuda":
        print(f"\npeak memory of all: {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")


def frame(size_hw: tuple[int, int]) -> bytes:
    """A JPEG of soft shapes under some noise; at 3384 x 2710 it has about 3 MB."""
    height, width = size_hw
    generator = np.random.default_rng(0)
    soft = Image.fromarray(generator.integers(0, 256, (height // 40 + 1, width // 40 + 1, 3), dtype=np.uint8))
    smooth = np.asarray(soft.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    noisy = smooth + generator.integers(-6, 7, smooth.shape, dtype=np.int16)
    file = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()


def predictor() -> Predictor:
    """Ours, as a view server runs it: weights rounded for good on a GPU."""
    torch.manual_seed(0)
    detector = build_detector(parse(DetectorSection, DETECTOR, source="frame"), classes(CLASSES)).eval()
    if torch.bfloat16 == DTYPE:
        round_weights(detector)
    return Predictor(detector, device=DEVICE, dtype=DTYPE)


def floor(detector: Detector, image_hw: tuple[int, int], views: list[View]) -> Callable[[], None]:
    """Backbone and neck over batches of the sizes that `views` have, one after the other."""
    run, sizes = detector.graphs or detector.features, []
    for batch in batches_of(views, image_hw, batch_px=1):
        height, width = (-(-edge // 32) * 32 for edge in batch[0].tile.network_hw(image_hw))
        sizes.append((len(batch), 3, height, width))

    @torch.inference_mode()
    def once() -> None:
        for size in sizes:
            pixels = torch.zeros(size, dtype=DTYPE, device=DEVICE).contiguous(memory_format=torch.channels_last)
            with torch.autocast(DEVICE.type, dtype=torch.bfloat16, enabled=torch.bfloat16 == DTYPE):
                run(pixels)
        _wait()

    return once


def torchvision_views(image: NDArray[np.uint8], scales: range) -> Callable[[], None]:
    """torchvision's model over every view, to the masks of 28 x 28: its pasting takes seconds."""
    limits = {"box_score_thresh": 0.0, "box_detections_per_img": INSTANCES}
    model: nn.Module = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=CLASSES + 1, **limits)
    model = model.to(DEVICE, memory_format=torch.channels_last).eval()
    pixels = torch.from_numpy(image.copy()).to(DEVICE).permute(2, 0, 1) / 255

    @torch.inference_mode()
    def view(picture: Tensor, scale: int) -> None:
        model.transform.min_size, model.transform.max_size = (scale,), 10**6
        with torch.autocast(DEVICE.type, dtype=torch.bfloat16, enabled=torch.bfloat16 == DTYPE):
            inputs, _ = model.transform([picture])
            features = model.backbone(inputs.tensors)
            proposals, _ = model.rpn(inputs, features)
            model.roi_heads(features, proposals, inputs.image_sizes)

    def once() -> None:
        for scale in scales:
            view(pixels, scale)
            view(pixels.flip(-1), scale)
        _wait()

    return once


def in_turn(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each way, after a first call."""
    for way in ways.values():
        way()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def stages(one: Predictor, jpeg: bytes, views: list[View]) -> Counter[str]:
    """Seconds of a frame by stage, each without those inside it and waited for."""
    clock = Clock()
    detector = one.detector
    places: dict[str, tuple[Any, str]] = {
        "to the device, resized": (pictures.Picture, "inputs"),
        "normalised, padded": (detector, "_batch"),
        "backbone and neck": (detector, "look"),
        "proposals": (detector.rpn, "forward"),
        "box head": (detector.roi_heads, "forward"),
        "masks": (detector, "segment"),
        "to the host": (forwards, "to_host"),
    }
    with clock.runs("merging and the rest"):
        with clock.runs("decoding"):
            image = decode_image(jpeg, max_pixels=None)
        originals = {stage: getattr(owner, name) for stage, (owner, name) in places.items()}
        for stage, (owner, name) in places.items():
            setattr(owner, name, clock.wrapped(stage, originals[stage]))
        try:
            one.predict(image, views)
        finally:
            for stage, (owner, name) in places.items():
                setattr(owner, name, originals[stage])
    return clock.seconds


class Clock:
    """Seconds by stage; those of a stage inside another one count for the inner one alone."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def runs(self, stage: str) -> Iterator[None]:
        self._lap()
        self._open.append(stage)
        try:
            yield
        finally:
            self._lap()
            self._open.pop()

    def wrapped(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **options: Any) -> Any:
            with self.runs(stage):
                return function(*args, **options)

        return timed

    def _lap(self) -> None:
        _wait()
        now = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now


def _wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def _device() -> str:
    return torch.cuda.get_device_name() if DEVICE.type == "cuda" else "a CPU, which says nothing about a GPU"


def _print_ways(taken: dict[str, Timing], *, floor_s: float) -> None:
    print(f"\n| 1 frame (target {TARGET_S:.2f} s on an H200) | s, median (minimum) | times the floor |\n|---|---|---|")
    for name, one in taken.items():
        print(f"| {name} | {one.median:.3f} ({one.minimum:.3f}) | {one.median / floor_s:.2f} |")


def _print_stages(seconds: Counter[str]) -> None:
    print("\n| stage of a frame | ms | share |\n|---|---|---|")
    for stage, taken in seconds.most_common():
        print(f"| {stage} | {taken * 1e3:.1f} | {taken / seconds.total():.0%} |")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="3384x2710", help="width x height of the frame")
    parser.add_argument("--scales", default="1810:4510:300", help="first, last and step of the shorter edges")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="also with compiled graphs")
    parser.add_argument("--over-http", action="store_true", help="through a service instead")
    return parser.parse_args()


if __name__ == "__main__":
    main()
