"""What the pages are made of: served from memory, by name, under a strict content policy."""

import http.client
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tis_ray.serving import pages

FOLDER = Path(pages.__file__).parent / "viewer"
FILES = sorted(file.name for file in FOLDER.iterdir())
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class Response:
    status: int
    headers: http.client.HTTPMessage
    content: bytes


@pytest.fixture
def get(site) -> Callable[..., Response]:
    """Asks for a path just as it is written."""
    site.tokens = ("right",)

    def get(path: str, method: str = "GET", **headers: str) -> Response:
        connection = http.client.HTTPConnection(urlsplit(site.url).netloc, timeout=10)
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        answer = Response(response.status, response.headers, response.read())
        connection.close()
        return answer

    return get


def address(name: str) -> str:
    return {"index.html": "/", "docs.html": "/docs"}.get(name, f"/viewer/{name}")


def test_every_file_comes_with_its_type_and_the_content_policy(get):
    for name in FILES:
        response = get(address(name))
        assert response.status == 200, name
        assert response.content == (FOLDER / name).read_bytes()
        assert response.headers["Content-Type"].startswith(TYPES[Path(name).suffix])
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; ")
        assert "unsafe" not in policy


def test_nothing_else_is_there(get):
    for path in ("/viewer/", "/viewer/none.js", "/viewer/index.html", "/viewer/main.js/", "/viewer/MAIN.JS"):
        assert get(path).status == 404, path
    for path in ("/viewer/../pages.py", "/viewer/%2e%2e/pages.py", "/viewer//etc/passwd", "/viewer/main.js%00"):
        assert get(path).status == 404, path
    assert get("/viewer/main.js", method="POST").status == 405


def test_a_file_that_has_not_changed_is_not_sent_again(get):
    first = get("/viewer/main.js")
    assert first.headers["Cache-Control"] == "no-cache"
    again = get("/viewer/main.js", **{"If-None-Match": first.headers["ETag"]})
    assert (again.status, again.content) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    assert get("/viewer/main.js", **{"If-None-Match": '"another"'}).status == 200
    assert get("/viewer/list.js").headers["ETag"] != first.headers["ETag"]
    head = get("/viewer/main.js", method="HEAD")
    assert (head.status, head.content, head.headers["ETag"]) == (200, b"", first.headers["ETag"])


def test_everything_that_is_loaded_is_there_and_everything_there_is_loaded():
    loaded = {"index.html", "docs.html"}
    for name in FILES:
        text = (FOLDER / name).read_text()
        loaded |= set(re.findall(r'(?:src|href)="viewer/([^"]+)"', text)) | set(re.findall(r'from "\./([^"]+)"', text))
    assert loaded == set(FILES)


def test_no_file_names_another_host_or_holds_inline_code():
    for name in FILES:
        text = (FOLDER / name).read_text()
        assert not re.search(r"://(?!www\.w3\.org/)|[\"'(]//", text), name
        if name.endswith(".html"):
            assert not re.search(r"<style|<script(?![^>]* src=)|\son\w+=|\sstyle=", text), name


def test_all_of_them_are_in_the_package():
    """The wheel holds what is in `tis_ray` and not ignored by git."""
    root = FOLDER.parents[2]
    if not (root / ".git").exists():
        pytest.skip("not a checkout")
    ignored = subprocess.run(
        ["git", "check-ignore", *(str(FOLDER / name) for name in FILES)], cwd=root, capture_output=True, text=True
    )
    assert (ignored.returncode, ignored.stdout) == (1, "")
