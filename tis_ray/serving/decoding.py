"""From the bytes of a picture to a frame in the object store: few at a time, and never more pixels than there is room.

The pictures that wait for that are small: JPEG needs a tenth of what its pixels need. A picture that cannot be used is
refused before it waits, by its header.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tis_ray.errors import InputError
from tis_ray.formats.images import PixelLimitError, decode_image, encoded_size
from tis_ray.serving.messages import Deadline, OverloadError
from tis_ray.serving.places import Places
from tis_ray.serving.problems import ProblemError
from tis_ray.serving.time_limit import TimeIsUpError, in_time
from tis_ray.views import SizeHW

_THREADS = 4  # decoders let other threads run meanwhile; more would only decode more pictures later


class Frame(NamedTuple):
    """A decoded picture: the reference to its uint8 pixels (H, W, 3), the SHA-256 of its file, the seconds it took."""

    pixels: Any
    image_hw: SizeHW
    sha256: str
    seconds: float


class Decoder:
    """Decodes pictures of up to `max_pixels` and holds up to `max_decoded_pixels` of all together.

    put: stores pixels where other processes reach them and returns a reference (`ray.put`)
    """

    def __init__(self, put: Callable[[Any], Any], *, max_pixels: int, max_decoded_pixels: int) -> None:
        self._put = put
        self._max_pixels = max_pixels
        self._places = Places(max_decoded_pixels)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="decode")

    @asynccontextmanager
    async def decoded(self, image: bytes, within: Deadline) -> AsyncIterator[Frame]:
        """The picture in `image`, for as long as its pixels are needed.

        Raises a `ProblemError`, 400 or 413, for one that cannot be used, `OverloadError` where there is no room for it
        `within` that time.
        """
        height, width = await asyncio.to_thread(self._read, lambda: encoded_size(image, max_pixels=self._max_pixels))
        held = await self._room(height * width, within)
        loop = asyncio.get_running_loop()
        work = self._threads.submit(self._decode, image)
        try:
            yield await asyncio.wrap_future(work)
        finally:
            work.cancel()
            # A decoder that is at work has its pixels until it is done, whoever has given up meanwhile.
            work.add_done_callback(lambda _: loop.call_soon_threadsafe(self._places.give_back, held))

    async def _room(self, pixels: int, within: Deadline) -> int:
        try:
            return await in_time(self._places.take(pixels), within.remaining_s)
        except TimeIsUpError:
            raise OverloadError("there was no room for another decoded picture in time") from None

    def _decode(self, image: bytes) -> Frame:
        start = time.perf_counter()
        pixels: NDArray[np.uint8] = self._read(lambda: decode_image(image, max_pixels=self._max_pixels))
        height, width = pixels.shape[:2]
        reference, sha256 = self._put(pixels), hashlib.sha256(image).hexdigest()
        return Frame(reference, (height, width), sha256, time.perf_counter() - start)

    @staticmethod
    def _read(read: Callable[[], Any]) -> Any:
        try:
            return read()
        except PixelLimitError as error:
            raise _problem(413, error) from None
        except InputError as error:
            raise _problem(400, error) from None


def _problem(status: int, error: InputError) -> ProblemError:
    text = str(error).removeprefix("image: ")
    expected, _, got = text.removeprefix("expected ").partition("; got ")
    if not got:
        return ProblemError(status, f"the image cannot be used: {text}", field="image")
    return ProblemError(status, f"the image cannot be used: {text}", field="image", expected=expected, got=got)
