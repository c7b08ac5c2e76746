"""Whether the service is ready: it is once a real picture has gone all the way through every deployment."""

import asyncio
import io
import logging
from collections.abc import Awaitable, Callable

import numpy as np
from PIL import Image

from tis_ray.serving.problems import ProblemError

logger = logging.getLogger("ray.serve")


def warm_up_image() -> bytes:
    """A JPEG of 256x160 pixels: a shaded ground with bright and dark blocks, enough for detectors to look at."""
    rows, columns = np.mgrid[0:160, 0:256]
    picture = np.stack([columns, rows, 255 - columns], axis=-1).astype(np.uint8)
    for x in range(16, 240, 48):
        picture[40 + x // 4 : 70 + x // 4, x : x + 28] = (x, 20, 230 - x)
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="JPEG")
    return stream.getvalue()


class Readiness:
    """Sends the warm-up image through `segment` until it is answered once."""

    def __init__(self, segment: Callable[[bytes], Awaitable[bytes]], *, pause_s: float = 0.5) -> None:
        self._segment = segment
        self._pause_s = pause_s
        self._detail = "the warm-up image has not been sent yet"
        self._ready = False

    @property
    def ready(self) -> bool:
        """Whether every deployment has answered."""
        return self._ready

    @property
    def detail(self) -> str:
        """What readiness is waiting for, in words."""
        return self._detail

    async def run(self) -> None:
        """Try until it works; every try is bounded by the deadline of `segment`."""
        self._detail = "waiting for every deployment to answer the warm-up image"
        picture = await asyncio.to_thread(warm_up_image)
        while not self._ready:
            try:
                await self._segment(picture)
            except ProblemError as problem:
                self._detail = problem.detail
                await asyncio.sleep(self._pause_s)
            except Exception as error:  # a replica may die of anything while it starts; the next try may work
                logger.exception("the warm-up image failed")
                self._detail = f"the warm-up image failed: {type(error).__name__}"
                await asyncio.sleep(self._pause_s)
            else:
                self._ready = True
                self._detail = "every deployment answered the warm-up image"
