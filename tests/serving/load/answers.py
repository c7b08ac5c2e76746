"""What of an answer has to be the same whenever the same picture is sent."""

import io
from typing import Any

import numpy as np
import orjson
from PIL import Image


def essence(content: bytes) -> dict[str, Any]:
    """The answer without what is the request's alone: how long each stage and each view took."""
    answer = orjson.loads(content)
    del answer["timings"]
    for view in answer["views"]:
        del view["seconds"]
    return answer


def street(seed: int, size_hw: tuple[int, int]) -> bytes:
    """A JPEG of coarse and fine noise, so that its bytes and its pixels are as many as a photograph's."""
    rng = np.random.default_rng(seed)
    height, width = size_hw
    coarse = rng.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    pixels = np.clip(smooth + rng.normal(0, 6, (height, width, 1)), 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="JPEG", quality=90)
    return stream.getvalue()
