"""Records by key: what comes in any order is taken back in the order of its key, and nothing is left on disk."""

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tis_ray.errors import DataError
from tis_ray.results import spool
from tis_ray.results.spool import Spool


@pytest.mark.parametrize("held", [1, 40, 1 << 20], ids=["each written", "some written", "all held"])
@given(records=st.lists(st.tuples(st.integers(0, 3), st.text("abc", min_size=1, max_size=20)), max_size=30))
def test_the_records_of_a_key_come_back_in_their_order(tmp_path_factory, held, records):
    expected = defaultdict(list)
    with pytest.MonkeyPatch.context() as patched, Spool(tmp_path_factory.mktemp("spool")) as waiting:
        patched.setattr(spool, "_HELD_BYTES", held)
        for key, text in records:
            waiting.add(("image", key), text.encode())
            expected[key].append(text.encode())
        assert {key: waiting.take(("image", key)) for key in reversed(range(4))} == {
            key: expected[key] for key in range(4)
        }
        assert waiting.take(("image", 0)) == []


def test_no_file_shows_in_the_folder_even_while_it_is_in_use(tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "_HELD_BYTES", 1)
    with Spool(tmp_path) as waiting:
        waiting.add("a", b"x" * 10_000)
        assert list(tmp_path.iterdir()) == []  # a killed process leaves nothing either
        assert waiting.take("a") == [b"x" * 10_000]


def test_a_folder_that_takes_nothing_is_named(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"none \(TMPDIR .*\): expected a folder that takes .*; got No such file"):
        Spool(tmp_path / "none").__enter__()
    monkeypatch.setattr(spool, "_HELD_BYTES", 1)
    monkeypatch.setattr(spool, "TemporaryFile", lambda **_: open("/dev/full", "r+b", buffering=0))  # noqa: PTH123, SIM115
    with pytest.raises(DataError, match=r"got No space left on device$"), Spool(tmp_path) as waiting:
        waiting.add("a", b"x")
