"""Fetching what a job left: the same bytes, checked, and nothing sent twice. The head reads a local folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import orjson
import pytest

from tis_ray.cluster.fetch import fetch_checkpoint
from tis_ray.cluster.job import FILES, MANIFEST, OPTIONAL_FILES, lay_out, shelf
from tis_ray.errors import ConfigError, ServiceError


class Head:
    """The log folder of one node, and the files that were asked for."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self.asked: list[str] = []

    def job(self, job: str) -> SimpleNamespace:
        return SimpleNamespace(driver_node_id="node")

    @contextmanager
    def file(self, node: str, name: str) -> Iterator[Iterator[bytes]]:
        self.asked.append(Path(name).name)
        data = (self._logs / name).read_bytes()
        yield iter([data[i : i + 1000] for i in range(0, len(data), 1000)])


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Four files: one of all byte values, one empty."""
    folder = tmp_path / "there" / "checkpoint"
    folder.mkdir(parents=True)
    for name, content in {
        "model.safetensors": bytes(range(256)) * 40,
        "recipe.yaml": b"name: a\r\n",
        "categories.json": b"[]",
        "metrics.json": b"",
    }.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def head(checkpoint: Path, tmp_path: Path) -> Head:
    lay_out(checkpoint, tmp_path / "logs" / shelf("job") / "r50")
    return Head(tmp_path / "logs")


def fetch(head: Head, target: Path) -> list[str]:
    told: list[str] = []
    fetch_checkpoint(head, job="job", recipe="r50", target=target, say=told.append)  # type: ignore[arg-type]
    return told


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_files_come_byte_for_byte(head: Head, checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "here" / "r50" / "checkpoint"
    assert fetch(head, target) == ["fetching r50, 0.0 MiB"]
    assert contents(target) == contents(checkpoint)
    assert [path.name for path in target.parent.iterdir()] == ["checkpoint"]


def test_what_is_there_already_is_not_sent(head: Head, checkpoint: Path) -> None:
    assert fetch(head, checkpoint) == []
    assert head.asked == ["manifest.json"]


def test_another_checkpoint_is_replaced_whole(head: Head, checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "here"
    target.mkdir()
    (target / "recipe.yaml").write_text("another")
    (target / "left_over.txt").write_text("x")
    fetch(head, target)
    assert contents(target) == contents(checkpoint)


def test_a_damaged_transfer_leaves_what_was_there(head: Head, checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "here"
    target.mkdir()
    (target / "recipe.yaml").write_text("another")
    (checkpoint / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(ServiceError, match=r"r50/model\.safetensors: expected 10240 bytes"):
        fetch(head, target)
    assert contents(target) == {"recipe.yaml": b"another"}
    assert not list(tmp_path.glob(".partial*"))


@pytest.mark.parametrize("there", [OPTIONAL_FILES, OPTIONAL_FILES[:1], OPTIONAL_FILES[1:]], ids=str)
def test_training_sizes_and_ensemble_come_along_where_they_are(
    checkpoint: Path, tmp_path: Path, there: tuple[str, ...]
) -> None:
    assert set(OPTIONAL_FILES) == {"training_sizes.json", "ensemble.yaml"}
    for name in there:
        (checkpoint / name).write_text(name)
    lay_out(checkpoint, tmp_path / "logs" / shelf("job") / "r50")
    head, target = Head(tmp_path / "logs"), tmp_path / "here" / "checkpoint"
    fetch(head, target)
    assert head.asked == [MANIFEST, *FILES, *there]
    assert contents(target) == contents(checkpoint)


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", ".bashrc", "training_state.pt"])
def test_files_that_no_checkpoint_has_are_neither_sent_nor_fetched(
    head: Head, checkpoint: Path, tmp_path: Path, name: str
) -> None:
    place = tmp_path / "logs" / shelf("job") / "r50"
    listed = orjson.loads((place / MANIFEST).read_bytes())
    (place / MANIFEST).write_bytes(orjson.dumps({name: listed["metrics.json"]} | listed))
    fetch(head, tmp_path / "here" / "checkpoint")
    assert head.asked == [MANIFEST, *FILES]
    assert sorted(path.name for path in (tmp_path / "here" / "checkpoint").iterdir()) == sorted(FILES)

    (checkpoint / "notes.txt").write_text("mine")
    lay_out(checkpoint, tmp_path / "again")
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == sorted([MANIFEST, *FILES])


@pytest.mark.parametrize("content", [b"{}", b"[]", b"no json", b'{"recipe.yaml": 3}'])
def test_a_list_of_less_than_a_checkpoint_is_refused(head: Head, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "logs" / shelf("job") / "r50" / MANIFEST).write_bytes(content)
    with pytest.raises(ServiceError, match=r"r50/manifest\.json: expected sizes and sums of model\.safetensors"):
        fetch(head, tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_what_is_no_checkpoint_is_never_replaced(head: Head, tmp_path: Path) -> None:
    target = tmp_path / "thesis"
    target.mkdir()
    (target / "chapter1.tex").write_text("years of work")
    (tmp_path / "link").symlink_to(target)
    for path in (target, target / "chapter1.tex", tmp_path / "link"):
        with pytest.raises(ConfigError, match=r"expected nothing or a checkpoint at .*; it holds something else"):
            fetch(head, path)
    assert contents(target) == {"chapter1.tex": b"years of work"}
