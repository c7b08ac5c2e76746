"""Files and folders are there whole or not at all."""

import os
from pathlib import Path

import pytest

from tis_ray import whole_files
from tis_ray.whole_files import partial_of, replace, replacing, write


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("content", ["ä\n", b"\xff\x00"])
def test_a_file_is_written_over_another_one(tmp_path: Path, content: bytes | str):
    path = tmp_path / "a.json"
    path.write_text("before")
    write(path, content)
    assert path.read_bytes() == (content if isinstance(content, bytes) else b"\xc3\xa4\n")
    assert names(tmp_path) == ["a.json"]


def test_what_fails_leaves_what_was_there_and_nothing_else(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("before")

    def interrupted() -> None:
        with replacing(path) as partial:
            partial.write_text("half of it")
            assert path.read_text() == "before"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names(tmp_path) == ["a.txt"]
    assert path.read_text() == "before"


def test_a_folder_takes_the_place_of_another_one(tmp_path: Path):
    path = tmp_path / "set"
    for content in ("old", "new"):
        with replacing(path, durable=content == "new") as partial:
            partial.mkdir()
            (partial / content).write_text(content)
    assert names(tmp_path) == ["set"]
    assert names(path) == ["new"]


@pytest.mark.parametrize("durable", [False, True])
def test_a_kill_between_the_two_steps_loses_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool):
    path, written = tmp_path / "set", tmp_path / ".partial-new"
    for folder in (path, written):
        folder.mkdir()
        (folder / folder.name).touch()
    steps, rename = [], Path.replace

    def killed(self: Path, target: Path) -> Path:
        steps.append((self.name, target.name))
        if self == written:
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            replace(written, path, durable=durable)
    assert steps == [("set", ".partial-old-set"), (".partial-new", "set")]
    assert names(tmp_path / ".partial-old-set") == ["set"]
    replace(written, path)  # what a later process does, what is left of the first one notwithstanding
    assert names(tmp_path / "set") == [".partial-new"]
    assert names(tmp_path) == ["set"]


def test_a_file_never_takes_the_place_of_a_folder(tmp_path: Path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "kept").touch()
    with pytest.raises(IsADirectoryError):
        write(tmp_path / "set", "x")
    assert names(tmp_path / "set") == ["kept"]
    assert names(tmp_path) == ["set"]


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path):
    path = tmp_path / "a.parquet"
    assert partial_of(path) != partial_of(path)
    assert partial_of(path).suffix == ".parquet"
    with replacing(path) as one, replacing(path) as other:
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"
    assert names(tmp_path) == ["a.parquet"]


def test_a_disk_that_fails_at_the_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    write(tmp_path / "fast", "x")
    with pytest.raises(OSError, match="No space left"), replacing(tmp_path / "sure", durable=True) as partial:
        partial.write_text("x")
    assert names(tmp_path) == ["fast"]
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(22, "Invalid argument")))
    whole_files.flush(tmp_path / "fast")  # a file system that cannot say so
