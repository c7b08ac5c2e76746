"""The commands over a data set take URLs, and find behind them what they find in the files."""

import functools
import http.server
import json
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from typer.testing import CliRunner

from tests.curation.broken import broken_set, whole_set
from tests.http_server import served
from tis_ray.cli import app
from tis_ray.config.data_path import place
from tis_ray.curation.check import check
from tis_ray.curation.opening import open_leniently
from tis_ray.curation.pair import compare
from tis_ray.errors import ConfigError, DataError
from tis_ray.formats.json_stream import JsonStream


class Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        pass


def behind(kind: str, folder: Path) -> Iterator[str]:
    """The address of a folder's files, on a web server or in memory."""
    if kind == "http":
        with served(functools.partial(Files, directory=str(folder))) as address:
            yield address
        return
    memory, root = fsspec.filesystem("memory"), f"/{folder.parent.name}_{folder.name}"
    memory.put(str(folder), root, recursive=True)
    yield f"memory:/{root}"
    memory.rm(root, recursive=True)


@pytest.fixture(params=["http", "memory"])
def broken(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A set with every fault, and its address."""
    path = broken_set(tmp_path / "broken")
    for root in behind(request.param, path.parent):
        yield path, f"{root}/{path.name}"


@pytest.fixture(params=["http", "memory"])
def whole(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    path = whole_set(tmp_path / "whole")
    for root in behind(request.param, path.parent):
        yield path, f"{root}/{path.name}"


def run(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    return done.exit_code, done.output


def test_every_fault_is_found_behind_a_url(broken: tuple[Path, str]):
    path, url = broken
    there, here = (check(*open_leniently(place(str(one))), decode_all=True) for one in (url, path))
    assert there.problems.counts == here.problems.counts
    assert list(there.file_bytes.values()) == list(here.file_bytes.values())


def test_data_check_takes_urls(broken: tuple[Path, str], tmp_path: Path):
    path, url = broken
    out = tmp_path / "page.html"
    code, told = run("data", "check", url, "--val", path, "--out", out)
    assert code == 2
    assert told.splitlines()[0] == f"{url}: 12 images, 28 objects, 3 classes"
    assert out.read_text().count("<img") > 3
    assert run("data", "check", url, "--annotations-only")[0] == 2


def test_pictures_in_both_sets_are_told_across_storages(whole: tuple[Path, str]):
    path, url = whole
    there, here = (check(*open_leniently(place(str(one)))) for one in (url, path))
    both = [problem.where for problem in compare(here, there) if problem.kind == "picture in both"]
    pairs = zip(there.truth.images, here.truth.images, strict=True)
    assert sorted(both) == [f"{one.path} is {other.path}" for one, other in pairs]


def test_data_split_writes_the_same_of_a_url(whole: tuple[Path, str], tmp_path: Path):
    path, url = whole
    for source, out in ((path, "here"), (url, "there")):
        assert run("data", "split", source, "--by", "image", "--val", "0.34", "--out", tmp_path / out)[0] == 0
    for part in ("train.json", "val.json"):
        assert (tmp_path / "here" / part).read_bytes() == (tmp_path / "there" / part).read_bytes()


def test_evaluate_takes_a_url_of_the_truth(whole: tuple[Path, str], tmp_path: Path):
    path, url = whole
    results = tmp_path / "results.json"
    entries = json.loads(path.read_text())["annotations"]
    keys = ("image_id", "category_id", "bbox")
    results.write_text(json.dumps([{key: entry[key] for key in keys} | {"score": 0.5} for entry in entries]))
    code, told = run("evaluate", "--ground-truth", url, "--predictions", results)
    assert (code, told) == run("evaluate", "--ground-truth", path, "--predictions", results)
    assert code == 0


def test_urls_that_nobody_knows_are_refused_with_the_name_of_the_option(tmp_path: Path):
    for arguments in (["check", "ftpx://a/b.json"], ["split", "ftpx://a/b.json", "--out", tmp_path]):
        with pytest.raises(ConfigError, match=r"^DATA: expected a path, or a URL that fsspec knows"):
            run("data", *arguments)
    with pytest.raises(ConfigError, match=r"^--val: expected a path, or a URL"):
        run("data", "check", "memory://x.json", "--val", "ftpx://a/b.json")
    with pytest.raises(DataError, match=r"^memory:.*gone\.json: cannot be read \(No such file\)$"):
        run("data", "split", "memory://gone.json", "--out", tmp_path)


class Breaks(http.server.BaseHTTPRequestHandler):
    """Promises more than it sends."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(8 << 20))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(b"[1, 2" + b" " * (2 << 20))

    do_HEAD = do_GET

    def log_message(self, format, *args):
        pass


def test_a_connection_that_breaks_while_a_file_is_read_names_its_url():
    match = r"^http.*/torn\.json: cannot be read \(ClientPayloadError: "
    with served(Breaks) as address, pytest.raises(DataError, match=match), JsonStream(f"{address}/torn.json") as stream:
        list(stream.items())
