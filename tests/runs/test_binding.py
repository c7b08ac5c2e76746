"""A run belongs to what it began with, and to one process at a time."""

import subprocess
import sys
from pathlib import Path

import pytest

from tis_ray.errors import ConfigError
from tis_ray.runs.binding import check_same, digest, locked

RUN = {"members": {"a": {"scales": [64]}}, "images": 10}


def test_a_digest_knows_the_content_and_not_its_order() -> None:
    assert digest(RUN) == digest({"images": 10, "members": {"a": {"scales": (64,)}}})
    assert digest(RUN) != digest(RUN | {"images": 11})


def test_the_same_run_is_no_other_one_whatever_the_order_of_its_keys() -> None:
    check_same(Path("x.run"), RUN, {"images": 10, "members": {"a": {"scales": (64,)}}})


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            {"members": {"a": {"scales": [96]}}},
            r"members\.a\.scales: expected \[64\], with which the run in x\.run began",
        ),
        ({"members": {"b": {"scales": [64]}}}, r"members\.b\.scales: expected nothing, .*; got \[64\]"),
        ({"members": {}}, r"members: expected nothing, .*; got \{\}"),
        ({"images": 11}, "images: expected 10, .*; got 11"),
    ],
    ids=["value", "name", "empty", "count"],
)
def test_another_run_is_refused_naming_what_differs(other: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_same(Path("x.run"), RUN, {**RUN, **other})


def test_a_process_that_dies_lets_go_of_a_run_and_one_that_lives_does_not(tmp_path: Path) -> None:
    code = (
        f"import pathlib, sys\nfrom tis_ray.runs.binding import locked\nwith locked(pathlib.Path({str(tmp_path)!r})):"
    )
    code += "\n print('held', flush=True)\n sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ConfigError, match="another process is writing this run"), locked(tmp_path):
            pass
        holder.kill()
        holder.wait()
        with locked(tmp_path):
            pass
