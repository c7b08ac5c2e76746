"""Reading a request's body: which limit it met is said by the limit that was set, not by a second look at a clock."""

import asyncio

import pytest
from starlette.requests import Request

from tis_ray.serving.body import read_image
from tis_ray.serving.messages import Deadline
from tis_ray.serving.problems import ProblemError


class EarlyBell(Deadline):
    """A deadline that the event loop's timer reaches a moment before its own clock does, as timers may."""

    @property
    def remaining_s(self) -> float:
        return max(super().remaining_s - 0.05, 0.0)

    @property
    def passed(self) -> bool:
        return False


async def read(stall_s: float, deadline: Deadline) -> bytes:
    async def nothing_comes() -> dict[str, object]:
        await asyncio.sleep(30)
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", b"image/jpeg")]}
    return await read_image(Request(scope, nothing_comes), max_bytes=100, stall_s=stall_s, deadline=deadline)


@pytest.mark.parametrize(
    ("stall_s", "deadline_s", "said"), [(5.0, 0.1, "the deadline passed"), (0.1, 5.0, "nothing came for 0.1 s")]
)
def test_a_body_that_never_comes_names_the_limit_it_met(stall_s, deadline_s, said):
    with pytest.raises(ProblemError, match=said):
        asyncio.run(read(stall_s, EarlyBell(deadline_s)))


def body_of(pieces: list[bytes], *, kind: bytes = b"image/jpeg", max_bytes: int = 10_000) -> bytes:
    """What is read of a body that comes in these pieces."""
    left = iter(pieces)

    async def receive() -> dict[str, object]:
        piece = next(left, None)
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", kind)]}
    return asyncio.run(read_image(Request(scope, receive), max_bytes=max_bytes, stall_s=5, deadline=Deadline(5)))


def form(*parts: bytes, boundary: bytes = b"b") -> bytes:
    return b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + boundary + b"--\r\n"


FORM = b"multipart/form-data; boundary=b"
FILE = b'Content-Disposition: form-data; name="image"; filename="%s"\r\n\r\n%s'
TEXT = b'Content-Disposition: form-data; name="%s"\r\n\r\n%s'


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_body_is_the_same_in_whatever_pieces_it_comes(size):
    content = bytes(range(256)) * 8
    whole = form(TEXT % (b"note", b"hello"), FILE % (b"a.jpg", content))
    for body, kind in ((content, b"image/jpeg"), (whole, FORM)):
        assert body_of([body[at : at + size] for at in range(0, len(body), size)], kind=kind) == content


@pytest.mark.parametrize("name", [b"../../etc/passwd", b"/etc/passwd", b"a\\b:c|d", b"", b"x" * 1000, b"\xff\xfe\x00"])
def test_what_a_form_calls_its_file_is_not_looked_at(name, monkeypatch):
    monkeypatch.setattr("builtins.open", None)
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    assert body_of([form(FILE % (name, b"picture"))], kind=FORM) == b"picture"


CHARSETS = [b"punycode", b"idna", b"hex", b"undefined", b"unicode_escape", b"none such", b"a\0b", b"utf-7", b"x" * 500]


@pytest.mark.parametrize("charset", CHARSETS)
def test_a_form_does_not_choose_by_which_codec_it_is_read(charset):
    body = form(TEXT % (b"note", b"a-" + b"zz9" * 1000), FILE % (b"a.jpg", b"picture"))
    assert body_of([body], kind=FORM + b"; charset=" + charset) == b"picture"


@pytest.mark.parametrize("boundary", [b'a"b', b"a\\b", b"x" * 71, b"", b"\xe4"])
def test_a_boundary_that_none_may_be_is_refused(boundary):
    with pytest.raises(ProblemError, match="malformed") as error:
        body_of([b"x"], kind=b"multipart/form-data; boundary=" + boundary)
    assert error.value.status == 400


@pytest.mark.parametrize("boundary", [b"x" * 70, b"'()+_,-./:=?", b"a b"])
def test_a_boundary_of_any_allowed_character_is_taken(boundary):
    body = form(FILE % (b"a.jpg", b"picture"), boundary=boundary)
    assert body_of([body], kind=b'multipart/form-data; boundary="' + boundary + b'"') == b"picture"


def test_a_form_of_endless_parts_headers_or_text_is_refused_while_it_comes():
    """Each is cut off long before all of it came."""
    endless = {
        "parts": form(TEXT % (b"x", b""))[:-7] * 100_000,
        "headers": b"--b\r\n" + b"a: b\r\n" * 100_000,
        "one header": b"--b\r\na: " + b"b" * 1_000_000,
        "text": form(TEXT % (b"x", bytes(1_000_000))),
    }
    for body in endless.values():
        pieces = [body[at : at + 65_536] for at in range(0, len(body), 65_536)]
        with pytest.raises(ProblemError, match="malformed"):
            body_of([*pieces[:3], b"", *pieces[3:]], kind=FORM, max_bytes=2_000_000)


def test_a_form_over_the_limit_is_cut_off():
    with pytest.raises(ProblemError, match="too large") as error:
        body_of([form(FILE % (b"a.jpg", bytes(20_000)))], kind=FORM)
    assert error.value.status == 413
    with pytest.raises(ProblemError, match="too large") as error:
        body_of([form(FILE % (b"a.jpg", bytes(1000)))] + 1000 * [bytes(1000)], kind=FORM)
    assert error.value.members["got"] == f"more than {10_000 + 2**16} bytes"
