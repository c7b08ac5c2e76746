"""Processes that a command has left running, told apart by a mark in their environment."""

import time
from pathlib import Path

MARK = "TIS_RAY_TEST_MARK"


def left_running(mark: str, *, settled_within_s: float = 20) -> set[str]:
    """Command lines of the processes that were started with `MARK=mark`, those that end in time left out."""
    end = time.monotonic() + settled_within_s
    while (found := _now(f"{MARK}={mark}".encode())) and time.monotonic() < end:
        time.sleep(0.5)
    return found


def _now(entry: bytes) -> set[str]:
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if entry in (folder / "environ").read_bytes().split(b"\0"):
                found.add((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:  # it has just ended, or is another user's
            continue
    return found
