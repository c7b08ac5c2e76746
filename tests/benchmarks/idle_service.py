"""The service with everything in it but decoding and models, for what Serve and the service's own code take.

While `stood_in`, an application is built with others in their places: a picture is decoded once, and views find at once
what they are told to. Everything else is the application as `tis-ray serve` runs it.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from fastapi import FastAPI
from numpy.typing import NDArray
from PIL import Image

from tests.benchmarks.generate import FRAME_HEIGHT, FRAME_WIDTH, views_of_boxes
from tests.tiny import save_tiny_checkpoint
from tis_ray.config import Ensemble
from tis_ray.inference.asked import Asked
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks
from tis_ray.serving import app, decoding
from tis_ray.views import View

DEPLOYMENTS = 10
SCALES = [100 * (number + 1) for number in range(DEPLOYMENTS)]  # plain and mirrored, which makes twenty views
PER_VIEW, CLASSES, PATCH = 100, 3, 28
JPEG_BYTES = 3_000_000
REPLICA = {"num_cpus": 0.1, "num_gpus": 0}


def ensemble(folder: Path) -> Ensemble:
    """One member at ten scales, each in a deployment of its own; its checkpoint is written into `folder`."""
    save_tiny_checkpoint(folder / "member")
    content = {
        "members": {"member": {"checkpoint": str(folder / "member"), "scales": SCALES}},
        "fusion": {"rules": [{"nms": {"iou_threshold": 0.7}}, {"soft_nms": {}}], "top_k": 100},
        "replicas": dict.fromkeys(("default", "gateway", "fusion"), REPLICA),
        "auth": "none",
    }
    return Ensemble.model_validate(content)


def jpeg(*, objects: bool) -> bytes:
    """A JPEG of 3384 x 2710 px and about 3 MB, in which views find a hundred objects each, or none."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 216, (FRAME_HEIGHT // 40, FRAME_WIDTH // 40, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((FRAME_WIDTH, FRAME_HEIGHT), Image.Resampling.BICUBIC))
    grain = rng.integers(-12, 13, (FRAME_HEIGHT, FRAME_WIDTH, 1), dtype=np.int16)
    pixels = np.clip(smooth + grain, 0, 255).astype(np.uint8)
    pixels[:16, :16] = 255 * objects  # what the views look at
    low, high = 1, 95
    while low < high:  # the finest quality that stays below
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(_written(pixels, middle)) <= JPEG_BYTES else (low, middle - 1)
    content = _written(pixels, low)
    return content + bytes(JPEG_BYTES - len(content))  # readers stop at the picture's end


def _written(pixels: NDArray[np.uint8], quality: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="JPEG", quality=quality)
    return stream.getvalue()


def answer_bytes() -> int:
    """The bytes of the arrays with which one view server answers where its two views find a hundred objects each."""
    return sum(_bytes_of(one) for one in ready()[:2])


def _bytes_of(found: Instances) -> int:
    assert isinstance(found.masks, BoxMasks)
    own = [found.boxes, found.scores, found.labels, found.source]
    return sum(array.nbytes for array in [*own, found.masks.boxes, found.masks.probabilities, found.masks.present])


@contextmanager
def stood_in() -> Iterator[None]:
    """Applications that are built meanwhile neither load predictors nor decode a picture twice."""
    with (
        mock.patch.object(app, "load_predictor", Idle),
        mock.patch.object(app, "memory_taken", _nothing_taken),
        mock.patch.object(app, "GatewayReplica", DecodingOnce),
    ):
        yield


def _nothing_taken(device: str) -> None:
    """Instead of asking PyTorch."""


class DecodingOnce(app.GatewayReplica):
    """The gateway's replica, which remembers every picture that it has decoded."""

    def __serve_build_asgi_app__(self) -> FastAPI:
        mock.patch.object(decoding, "decode_image", _DecodeOnce(decoding.decode_image)).start()
        return super().__serve_build_asgi_app__()


class _DecodeOnce:
    def __init__(self, decode: Any) -> None:
        self._decode = decode
        self._decoded: dict[bytes, Any] = {}

    def __call__(self, content: bytes, **options: Any) -> Any:
        start = content[:4096]  # with the corner that tells the pictures apart
        if start not in self._decoded:
            self._decoded[start] = self._decode(content, **options)
        return self._decoded[start]


class Idle:
    """A predictor that does no work: what it finds is ready, or nothing, by the picture's corner."""

    memory: "Idle"

    def __init__(self, *_: Any, **__: Any) -> None:
        self.memory = self

    def predict(self, image: NDArray[np.uint8], views: Sequence[View], **_: Any) -> list[Instances]:
        found, nothing = ready(), Instances.empty(mask_size=PATCH)
        return [found[_number(view)] if image[0, 0, 0] > 127 else nothing for view in views]

    def predict_together(self, asked: Sequence[Asked], views: Sequence[View], **_: Any) -> Any:
        return [self.predict(one.image, views) if one.wanted() else None for one in asked]

    def pictures_at_once(self, *_: Any) -> int:
        return 1

    def warm_up(self, *_: Any) -> None: ...

    def check_device(self) -> None: ...

    def holds(self, key: str) -> bool:
        return False

    def forget(self, key: str) -> None: ...

    def drop_old(self) -> None: ...


def _number(view: View) -> int:
    return SCALES.index(view.scale) * 2 + view.flip


@cache
def ready() -> list[Instances]:
    """What each of the twenty views finds: the same objects with other boxes, and discs for masks."""
    found = views_of_boxes(2 * DEPLOYMENTS, 2 * DEPLOYMENTS * PER_VIEW, CLASSES)
    across = np.linspace(-1.2, 1.2, PATCH)
    disc = np.clip(1.5 - np.hypot(across[:, None], across), 0, 1).astype(np.float16)
    by_view = []
    for number in range(2 * DEPLOYMENTS):
        own = found.source == number
        boxes = found.boxes[own]
        masks = BoxMasks(boxes, np.repeat(disc[None], len(boxes), axis=0))
        by_view.append(Instances.of(boxes, found.scores[own], found.labels[own], masks))
    return by_view
