"""The journal of a batch run: what a kill at any byte leaves, who may hold it, and of which run it is."""

import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tis_ray.errors import ConfigError
from tis_ray.formats.image_list import ListedImage
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks
from tis_ray.submission.journal import Journal, journal_path
from tis_ray.submission.pipeline import ImageResult, Segmented
from tis_ray.views import View

RUN: dict[str, Any] = {"members": {"a": {"scales": [64]}}, "images": {"count": 3}}


def image(number: int) -> ListedImage:
    return ListedImage(number, f"{number}.png", Path(f"{number}.png"))


def result(number: int, *, missing: tuple[str, ...] = (), masks: bool = True, quality: bool = False) -> ImageResult:
    """As many instances as the number says, all values different."""
    rng = np.random.default_rng(number)
    boxes = rng.random((number, 4), dtype=np.float32)
    patches = BoxMasks(boxes + 1, rng.random((number, 28, 28)).astype(np.float16)) if masks else None
    if quality:
        patches = replace(patches, quality=rng.random(number, dtype=np.float32))
    found = Instances.of(boxes, rng.random(number), rng.integers(0, 5, number), patches, source=3)
    return ImageResult(image(number), (10 + number, 20), Segmented(found, missing=missing))


def assert_same(one: ImageResult, other: ImageResult) -> None:
    assert (one.image, one.size_hw) == (other.image, other.size_hw)
    assert one.found is not None
    assert other.found is not None
    assert one.found.missing == other.found.missing
    a, b = one.found.instances, other.found.instances
    for field in ("boxes", "scores", "labels", "source"):
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field), strict=True)
    assert (a.masks is None) == (b.masks is None)
    if a.masks is not None and b.masks is not None:
        np.testing.assert_array_equal(a.masks.boxes, b.masks.boxes, strict=True)
        np.testing.assert_array_equal(a.masks.probabilities, b.masks.probabilities, strict=True)
        assert (a.masks.quality is None) == (b.masks.quality is None)
        np.testing.assert_array_equal(a.mask_scores, b.mask_scores, strict=True)


def write(path: Path, *results: ImageResult) -> None:
    with Journal.opened(path, RUN, resume=False) as journal:
        for one in results:
            journal.append(one)


def test_what_each_view_found_comes_back_too(tmp_path: Path) -> None:
    views = [View("a", 64), View("a", 64, True), View("b", 96)]
    fused, own, other = (result(number).found.instances for number in (2, 3, 0))
    noted = ImageResult(image(1), (9, 9), Segmented(fused, {views[0]: own, views[2]: other}, ("a@64/flip",)))
    with Journal.opened(tmp_path / "x", RUN, resume=False, views=views) as journal:
        journal.append(noted)
    with Journal.opened(tmp_path / "x", RUN, resume=True, views=views) as journal:
        found = journal.read(image(1)).found
    assert list(found.views) == [views[0], views[2]]
    for view, expected in ((views[0], own), (views[2], other)):
        assert_same(
            ImageResult(image(1), found=Segmented(found.views[view])), ImageResult(image(1), found=Segmented(expected))
        )


@pytest.mark.parametrize(
    "kind",
    [{"masks": True}, {"masks": False}, {"quality": True}],
    ids=["masks", "boxes only", "masks and how well they fit"],
)
def test_what_was_noted_comes_back_to_the_bit_in_any_order(tmp_path: Path, kind: dict[str, bool]) -> None:
    path = tmp_path / "x.partial"
    written = [result(number, **kind) for number in (2, 0, 5)]
    write(path, *written)
    with Journal.opened(path, RUN, resume=True) as journal:
        assert journal.done() == {0, 2, 5}
        for one in reversed(written):
            assert_same(journal.read(one.image), one)


def test_a_run_killed_at_any_byte_goes_on_with_all_whole_records(tmp_path: Path) -> None:
    path = tmp_path / "x.partial"
    write(path, result(1))
    first = path.stat().st_size
    path.unlink()
    write(path, result(1), result(2))
    content = path.read_bytes()
    for length in range(0, len(content) + 1, 1 if len(content) < 2000 else 37):
        path.write_bytes(content[:length])
        with Journal.opened(path, RUN, resume=True) as journal:
            expected = {1, 2} if length == len(content) else {1} if length >= first else set()
            assert journal.done() == expected, length
            journal.append(result(3))
            assert_same(journal.read(image(3)), result(3))
        with Journal.opened(path, RUN, resume=True) as journal:
            assert journal.done() == expected | {3}, length
            for number in expected:
                assert_same(journal.read(image(number)), result(number))


def test_a_damaged_record_is_done_again_with_all_that_follow_it(tmp_path: Path) -> None:
    path = tmp_path / "x.partial"
    write(path, result(1))
    first = path.stat().st_size
    path.unlink()
    write(path, result(1), result(2), result(3))
    content = bytearray(path.read_bytes())
    content[first + 40] ^= 1
    path.write_bytes(content)
    with Journal.opened(path, RUN, resume=True) as journal:
        assert journal.done() == {1}


def test_a_full_disk_is_named_and_keeps_what_was_noted_before(tmp_path: Path) -> None:
    path = tmp_path / "x.partial"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    write(path, result(1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, limits[1]))
    try:
        with (
            pytest.raises(OSError, match=r"File too large: .*x\.partial"),
            Journal.opened(path, RUN, resume=True) as journal,
        ):
            journal.append(result(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with Journal.opened(path, RUN, resume=True) as journal:
        assert journal.done() == {1}
        assert_same(journal.read(image(1)), result(1))


def test_the_last_record_of_an_image_counts(tmp_path: Path) -> None:
    path = tmp_path / "x.partial"
    write(path, result(4, missing=("a@64",)), result(1), result(4))
    with Journal.opened(path, RUN, resume=True) as journal:
        assert journal.done() == {1, 4}
        assert_same(journal.read(image(4)), result(4))


def test_answers_without_some_views_are_done_only_where_that_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "x.partial"
    write(path, result(1), result(2, missing=("a@64",)))
    with Journal.opened(path, RUN, resume=True) as journal:
        assert (journal.done(), journal.done(degraded=True)) == ({1}, {1, 2})


def test_an_image_whose_file_was_replaced_has_changed_and_one_that_is_gone_has_not(tmp_path: Path) -> None:
    path = tmp_path / "x.partial"
    results = [replace(result(n), image=replace(image(n), path=tmp_path / f"{n}.png")) for n in (1, 2, 3)]
    for one in results:
        one.image.path.write_bytes(b"picture")
    write(path, *results, result(4))
    results[1].image.path.write_bytes(b"another picture")
    results[2].image.path.unlink()
    with Journal.opened(path, RUN, resume=True) as journal:
        assert journal.changed([*(one.image for one in results), image(4), image(5)]) == {2}


def test_a_run_without_resume_never_overwrites_one_that_has_begun(tmp_path: Path) -> None:
    path = tmp_path / "x.partial"
    write(path, result(1))
    before = path.read_bytes()
    with (
        pytest.raises(ConfigError, match=r"x\.partial holds an unfinished run, 1 images; .*--resume, or delete it"),
        Journal.opened(path, RUN, resume=False),
    ):
        pass
    assert path.read_bytes() == before


def test_a_run_that_found_nothing_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.partial"
    with pytest.raises(RuntimeError, match="no service"), Journal.opened(path, RUN, resume=False):
        raise RuntimeError("no service")
    assert not path.exists()


OTHERS = {
    "another scale": ({"members": {"a": {"scales": [96]}}}, r"members\.a\.scales: expected \[64\].*got \[96\]"),
    "another member": ({"members": {"b": {"scales": [64]}}}, r"members\.b\.scales: expected nothing.*got \[64\]"),
    "another list": ({"images": {"count": 4}}, r"images\.count: expected 3, .*x\.partial began; got 4"),
}


@pytest.mark.parametrize(("change", "message"), OTHERS.values(), ids=OTHERS.keys())
def test_another_run_is_refused_naming_what_differs(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "x.partial"
    write(path, result(1))
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=message), Journal.opened(path, RUN | change, resume=True):
        pass
    assert path.read_bytes() == before


def test_a_file_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.partial"
    path.write_text("my notes")
    for resume in (True, False):
        with pytest.raises(ConfigError, match="holds something else"), Journal.opened(path, RUN, resume=resume):
            pass
    assert path.read_text() == "my notes"


def test_two_processes_never_write_one_journal(tmp_path: Path) -> None:
    path = tmp_path / "x.partial"
    code = (
        "import sys; from pathlib import Path; from tis_ray.submission.journal import Journal\n"
        "with Journal.opened(Path(sys.argv[1]), {}, resume=True): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match="another process is writing"), Journal.opened(path, RUN, resume=True):
            pass
        other.kill()
    with Journal.opened(path, RUN, resume=True) as journal:  # a lock dies with its process
        assert journal.done() == set()


def test_the_journal_lies_beside_the_results(tmp_path: Path) -> None:
    assert journal_path(tmp_path / "a.json") == tmp_path / "a.json.partial"
