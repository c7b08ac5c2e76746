"""Processes that a command has left running, told apart by a mark in their environment."""

import time
from pathlib import Path

MARK = "TIS_RAY_TEST_MARK"


def left_running(mark: str, *, settled_within_s: float = 20) -> set[str]:
    """Command lines of the processes that were started with `MARK=mark`, those that end in time left out."""
    end = time.monotonic() + settled_within_s
    while (found := marked_processes(mark)) and time.monotonic() < end:
        time.sleep(0.5)
    return set(found.values())


def marked_processes(mark: str) -> dict[int, str]:
    """Ids and command lines of the processes that were started with `MARK=mark`."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found[int(folder.name)] = title
        except OSError:  # it has just ended, or is another user's
            continue
    return found
