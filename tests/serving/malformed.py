"""Malformed requests, over two hundred and all different, each with the statuses it may be refused with."""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

PIXELS = np.random.default_rng(0).integers(0, 256, (80, 112, 3), dtype=np.uint8)
IMAGE = {"Content-Type": "image/jpeg"}
SEGMENT = "/v1/segment"


@dataclass(frozen=True)
class Malformed:
    """One request that is wrong in the way `name` says."""

    name: str
    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = tuple(IMAGE.items())
    method: str = "POST"
    path: str = SEGMENT


def encoded(kind: str, pixels: np.ndarray = PIXELS) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format=kind)
    return stream.getvalue()


def png_claiming(width: int, height: int, data: bytes, *, depth: int = 1, colour: int = 0) -> bytes:
    """A PNG whose header says width x height pixels of `depth` bits, around `data`."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def bomb() -> bytes:
    """200 megapixels in some 30 KB."""
    return png_claiming(20_000, 10_000, zlib.compress(bytes(10_000 * (1 + 2500)), 9))


def requests() -> list[Malformed]:
    """All of them."""
    kinds = (_noise, _cut_short, _damaged, _bombs, _no_pictures, _types, _queries, _forms, _headers, _paths)
    return [request for kind in kinds for request in kind()]


def _noise() -> Iterator[Malformed]:
    rng = np.random.default_rng(1)
    for size in (1, 2, 3, 7, 16, 64, 300, 1000, 4096, 20_000):
        for kind in ("jpeg", "png", "webp"):
            yield Malformed(
                f"{size} random bytes as {kind}", 400, rng.bytes(size), (("Content-Type", f"image/{kind}"),)
            )
    for name, start in {
        "JPEG": b"\xff\xd8\xff\xe0",
        "PNG": b"\x89PNG\r\n\x1a\n",
        "WebP": b"RIFF\x40\x00\x00\x00WEBP",
    }.items():
        yield Malformed(f"noise after the signature of {name}", 400, start + rng.bytes(2000))


def _cut_short() -> Iterator[Malformed]:
    for kind in ("JPEG", "PNG", "WEBP"):
        whole = encoded(kind)
        for share in (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
            yield Malformed(f"the first {share:.0%} of a {kind}", 400, whole[: int(share * len(whole))])


def _damaged() -> Iterator[Malformed]:
    whole = encoded("PNG")
    for place in (0, 3, 9, 12, 14, 16, 25, 29, 37):
        yield Malformed(
            f"a PNG with byte {place} flipped", 400, whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
        )
    for name, data in {"none": b"", "no zlib": b"junk", "too few": zlib.compress(b"x")}.items():
        yield Malformed(f"a PNG whose pixels are {name}", 400, png_claiming(64, 64, data))
    yield Malformed("a PNG of unknown colours", 400, png_claiming(8, 8, zlib.compress(bytes(64)), depth=3, colour=5))
    yield Malformed("a PNG without width", 400, png_claiming(0, 8, zlib.compress(bytes(64))))


def _bombs() -> Iterator[Malformed]:
    yield Malformed("200 megapixels in 30 KB", 413, bomb())
    for width, height in (
        (2001, 1000),
        (1000, 2001),
        (20_000, 10_000),
        (65_000, 65_000),
        (2**31 - 1, 1),
        (1, 2**31 - 1),
    ):
        yield Malformed(f"a header of {width} x {height}", 413, png_claiming(width, height, b"junk"))
    for size in (3_000_001, 3_500_000):
        yield Malformed(f"{size} bytes", 413, bytes(size))


def _no_pictures() -> Iterator[Malformed]:
    texts = {
        "nothing": b"",
        "a space": b" ",
        "text": b"this is no picture",
        "JSON": b'{"image": "street.jpg"}',
        "a URL": b"http://127.0.0.1:8000/street.jpg",
        "a path": b"file:///etc/hostname",
        "HTML": b"<!DOCTYPE html><img src='street.jpg'>",
        "SVG": b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
        "PDF": b"%PDF-1.4\n1 0 obj << >> endobj\n%%EOF",
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        "a zip": b"PK\x03\x04" + bytes(60),
        "base64": b"/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwc=",
    }
    for name, text in texts.items():
        yield Malformed(f"{name} as a picture", 400, text)


def _types() -> Iterator[Malformed]:
    types = [
        "text/plain",
        "text/html",
        "application/json",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
    ]
    types += [
        "video/mp4",
        "audio/wav",
        "multipart/mixed; boundary=b",
        "multipart/",
        "image",
        "imagejpeg",
        "*/*",
        ";",
        "",
        "/",
    ]
    types += ["application/image/jpeg", "text/image", "x" * 500]
    for kind in types:
        yield Malformed(f"the type '{kind[:40]}'", 415, encoded("JPEG"), (("Content-Type", kind),))
    yield Malformed("no type", 415, encoded("JPEG"), ())


def _queries() -> Iterator[Malformed]:
    wrong = {
        "score_threshold": ["1.5", "-0.1", "nan", "inf", "-inf", "high", "", "0,5", "1e400", "0x1", "[0.5]"],
        "max_instances": ["0", "-1", "1.5", "many", "", "1e3", "nan", "[]", "--1"],
        "masks": ["png", "RLE", "", "rle,polygon", "null", "true", "0", "rle "],
        "deadline_s": ["0", "-1", "61", "1e9", "inf", "nan", "soon", "", "60.0001"],
        "explain": ["perhaps", "2", "-1", "", "truee", "[]"],
        "score_treshold": ["0.5"],
        "Masks": ["rle"],
        "image": ["http://127.0.0.1/street.jpg"],
        "url": ["file:///etc/hostname"],
        "token": ["secret"],
        "": ["x"],
    }
    for key, values in wrong.items():
        for value in values:
            yield Malformed(
                f"the query {key}={value}", 422, encoded("JPEG"), path=f"{SEGMENT}?{key}={value.replace(' ', '%20')}"
            )
    yield Malformed("a value that is no UTF-8", 422, encoded("JPEG"), path=f"{SEGMENT}?masks=%ff%fe")
    yield Malformed(
        "two hundred unknown parameters",
        422,
        encoded("JPEG"),
        path=f"{SEGMENT}?{'&'.join(f'a{i}=1' for i in range(200))}",
    )


def _forms() -> Iterator[Malformed]:
    jpeg = encoded("JPEG")

    def part(header: bytes, content: bytes = jpeg) -> bytes:
        return b"--b\r\n" + header + b"\r\n\r\n" + content + b"\r\n--b--\r\n"

    disposition = b"Content-Disposition: form-data; "
    bodies = {
        "without a boundary in it": b"no parts here",
        "that is empty": b"",
        "that ends at once": b"--b--\r\n",
        "of another boundary": part(disposition + b'name="image"; filename="a.jpg"').replace(b"--b", b"--c"),
        "whose part has no header": part(b""),
        "whose part has no name": part(disposition + b'filename="a.jpg"'),
        "with another field": part(disposition + b'name="picture"; filename="a.jpg"'),
        "with a text in place of the file": part(disposition + b'name="image"', b"street.jpg"),
        "with an empty file": part(disposition + b'name="image"; filename="a.jpg"', b""),
        "with a file that is no picture": part(disposition + b'name="image"; filename="a.jpg"', b"text"),
        "with a picture cut short": part(disposition + b'name="image"; filename="a.jpg"', jpeg[:800]),
        "with two files": part(disposition + b'name="image"; filename="a.jpg"').replace(b"--b--\r\n", b"") * 2
        + b"--b--\r\n",
        "with broken header lines": part(b"Content-Disposition form-data"),
        "with nine fields": b"".join(b"--b\r\n" + disposition + b'name="%d"\r\n\r\nx\r\n' % i for i in range(9))
        + b"--b--\r\n",
    }
    for name, body in bodies.items():
        yield Malformed(f"a form {name}", 400, body, (("Content-Type", "multipart/form-data; boundary=b"),))
    for name, kind in {
        "no boundary": "multipart/form-data",
        "an empty boundary": "multipart/form-data; boundary=",
    }.items():
        yield Malformed(
            f"a form with {name}", 400, part(disposition + b'name="image"; filename="a.jpg"'), (("Content-Type", kind),)
        )


def _headers() -> Iterator[Malformed]:
    for length in (16_400, 17_000, 30_000, 60_000):
        yield Malformed(
            f"a header of {length} bytes", 431, encoded("JPEG"), (*IMAGE.items(), ("X-Padding", "x" * length))
        )
    for count in (400, 1000):
        many = tuple((f"X-{number}", "x" * 40) for number in range(count))
        yield Malformed(f"{count} headers", 431, encoded("JPEG"), (*IMAGE.items(), *many))
    yield Malformed("a long cookie", 431, encoded("JPEG"), (*IMAGE.items(), ("Cookie", "a=" + "x" * 20_000)))
    yield Malformed("a long token", 431, encoded("JPEG"), (*IMAGE.items(), ("Authorization", "Bearer " + "x" * 20_000)))


def _paths() -> Iterator[Malformed]:
    for path in (
        "/v2/segment",
        "/v1",
        "/v1/segments",
        "/V1/segment",
        "/etc/passwd",
        "/v1/../../etc/passwd",
        "/docs/x",
        "/.env",
        "/%00",
    ):
        yield Malformed(f"the path {path}", 404, encoded("JPEG"), path=path)
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS"):
        yield Malformed(f"{method} of {SEGMENT}", 405, method=method)
    for path in ("/healthz", "/readyz", "/v1/ensemble", "/", "/docs", "/openapi.json"):
        yield Malformed(f"POST of {path}", 405, path=path)
