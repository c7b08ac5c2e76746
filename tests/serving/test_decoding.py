"""From bytes to frames: what cannot be used waits for nobody, and pixels count for as long as they are there."""

import asyncio
import hashlib
import io
import threading

import numpy as np
import pytest
from PIL import Image

from tis_ray.serving import decoding
from tis_ray.serving.decoding import Decoder
from tis_ray.serving.messages import Deadline, OverloadError
from tis_ray.serving.problems import ProblemError


def png(height: int, width: int, value: int = 7) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), value, dtype=np.uint8)).save(stream, format="PNG")
    return stream.getvalue()


def decoder(room: int = 100) -> Decoder:
    return Decoder(lambda pixels: pixels, max_pixels=10_000, max_decoded_pixels=room)


def test_a_frame_has_the_pictures_pixels_size_and_hash():
    async def story():
        async with decoder().decoded(png(4, 6), Deadline(30)) as frame:
            return frame

    frame = asyncio.run(story())
    np.testing.assert_array_equal(frame.pixels, np.full((4, 6, 3), 7))
    assert (frame.image_hw, frame.sha256) == ((4, 6), hashlib.sha256(png(4, 6)).hexdigest())
    assert frame.seconds > 0


@pytest.mark.parametrize(
    ("content", "status"),
    [pytest.param(b"none", 400, id="no picture"), pytest.param(png(200, 200), 413, id="too many pixels")],
)
def test_what_cannot_be_used_is_refused_though_there_is_no_room(content, status):
    async def story():
        pictures = decoder()
        async with pictures.decoded(png(10, 10), Deadline(30)), pictures.decoded(content, Deadline(30)):
            pass

    with pytest.raises(ProblemError) as error:
        asyncio.run(story())
    assert error.value.status == status


def test_a_picture_waits_for_room_and_is_refused_where_there_is_none_in_time():
    async def story():
        pictures = decoder()
        async with pictures.decoded(png(10, 10), Deadline(30)):
            with pytest.raises(OverloadError):
                async with pictures.decoded(png(1, 1), Deadline(0.05)):
                    pass
        async with pictures.decoded(png(1, 1), Deadline(30)) as frame:
            return frame

    assert asyncio.run(story()).image_hw == (1, 1)


def test_a_damaged_picture_gives_its_room_back():
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (10, 10, 3), dtype=np.uint8)).save(stream, format="PNG")
    half = stream.getvalue()[:150]

    async def story():
        pictures = decoder()
        for _ in range(3):
            with pytest.raises(ProblemError, match="cut short"):
                async with pictures.decoded(half, Deadline(5)):
                    pass
        async with pictures.decoded(png(10, 10), Deadline(5)) as frame:
            return frame

    assert asyncio.run(story()).image_hw == (10, 10)


def test_who_gives_up_while_a_decoder_is_at_work_gives_no_room_back_before_that_is_done(monkeypatch):
    at_work, go_on = threading.Event(), threading.Event()
    decode = decoding.decode_image

    def slow(content, *, max_pixels):
        at_work.set()
        assert go_on.wait(30)
        return decode(content, max_pixels=max_pixels)

    async def use(pictures: Decoder, within_s: float):
        async with pictures.decoded(png(10, 10), Deadline(within_s)) as frame:
            return frame

    async def story():
        pictures = decoder()
        monkeypatch.setattr(decoding, "decode_image", slow)
        gone = asyncio.create_task(use(pictures, 30))
        assert await asyncio.to_thread(at_work.wait, 30)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        with pytest.raises(OverloadError):
            await use(pictures, 0.05)
        go_on.set()
        return await use(pictures, 30)

    assert asyncio.run(story()).image_hw == (10, 10)
