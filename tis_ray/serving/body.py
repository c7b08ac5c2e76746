"""The image bytes of a request, counted while they arrive: a body over the limit is never held whole, and no part of
one is written to the disk."""

import asyncio
import io
import re
from collections.abc import AsyncGenerator

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from tis_ray.serving.messages import Deadline
from tis_ray.serving.problems import ProblemError

CONTENT_TYPES = "image/jpeg, image/png, image/webp or another image type, or multipart/form-data with a field 'image'"
_BOUNDARY = re.compile(rb"[\w'()+,\-./:=? ]{1,70}")  # RFC 2046
_FORM_OVERHEAD = 64 * 1024  # boundaries and part headers around an image in a form


async def read_image(request: Request, *, max_bytes: int, stall_s: float, deadline: Deadline) -> bytes:
    """The image in the body, plain or in the multipart field `image`.

    Raises a `ProblemError`: 415 wrong content type, 413 too many bytes, 408 nothing came for `stall_s` seconds or not
    all of it before the deadline, 400 empty or malformed.
    """
    content_type = request.headers.get("content-type", "")
    kind, options = parse_options_header(content_type)
    is_form = kind == b"multipart/form-data"
    if not is_form and not kind.startswith(b"image/"):
        raise ProblemError(
            415,
            "the body's content type is not an image's",
            field="Content-Type",
            expected=CONTENT_TYPES,
            got=content_type or "none",
        )
    cap = max_bytes + (_FORM_OVERHEAD if is_form else 0)
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > cap:
        raise _too_large(max_bytes, f"{announced} bytes announced")
    stream = _counted(request, cap, max_bytes, stall_s, deadline)
    image = await (_from_form(options.get(b"boundary", b""), stream, cap) if is_form else _whole(stream))
    if len(image) > max_bytes:
        raise _too_large(max_bytes, f"{len(image)} bytes")
    if not image:
        raise ProblemError(400, "there is no image in the request", field="body", expected="an image", got="0 bytes")
    return image


async def _counted(
    request: Request, cap: int, max_bytes: int, stall_s: float, deadline: Deadline
) -> AsyncGenerator[bytes, None]:
    """The body piece by piece, as long as it keeps coming and is not too long."""
    count = 0
    pieces = aiter(request.stream())
    while True:
        remaining_s = deadline.remaining_s
        try:
            async with asyncio.timeout(min(stall_s, remaining_s)):
                piece = await anext(pieces, None)
        except TimeoutError:  # the loop's clock may ring a moment before the deadline's: say which limit was set
            reason = "the deadline passed" if remaining_s <= stall_s else f"nothing came for {stall_s:g} s"
            raise ProblemError(
                408, f"{reason} before the body had arrived", field="body", expected="all of it", got=f"{count} bytes"
            ) from None
        except ClientDisconnect:
            raise ProblemError(400, "the connection was closed before the body ended") from None
        if piece is None:
            return
        count += len(piece)
        if count > cap:
            raise _too_large(max_bytes, f"more than {cap} bytes")
        yield piece


async def _whole(stream: AsyncGenerator[bytes, None]) -> bytes:
    body = io.BytesIO()
    async for piece in stream:
        body.write(piece)
    return body.getvalue()  # its own buffer: the bytes are not there twice


async def _from_form(boundary: bytes, stream: AsyncGenerator[bytes, None], cap: int) -> bytes:
    """The file in the field `image`. What the form calls the file is not looked at."""
    if not _BOUNDARY.fullmatch(boundary):
        raise ProblemError(
            400,
            "the multipart body is malformed",
            field="Content-Type",
            expected="a boundary of 1 to 70 characters",
            got=f"{len(boundary)}",
        )
    # Of the header the boundary alone: a charset would choose which of Python's codecs reads names and texts.
    headers = Headers({"Content-Type": f'multipart/form-data; boundary="{boundary.decode()}"'})
    parser = MultiPartParser(headers, stream, max_files=1, max_fields=8, max_part_size=_FORM_OVERHEAD)
    parser.spool_max_size = cap + 1  # nothing of a form goes to the disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise ProblemError(400, f"the multipart body is malformed: {error}", field="body") from None
    image = form.get("image")
    try:
        if isinstance(image, UploadFile):
            return await image.read()
    finally:
        await form.close()
    raise ProblemError(
        400,
        "the form has no file in the field 'image'",
        field="image",
        expected="a file",
        got=", ".join(sorted(form)) or "an empty form",
    )


def _too_large(max_bytes: int, got: str) -> ProblemError:
    return ProblemError(413, "the image is too large", field="body", expected=f"at most {max_bytes} bytes", got=got)
