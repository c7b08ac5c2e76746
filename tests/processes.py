"""Ray's processes on this machine, so that a test can tell whether it left any behind."""

import time
from pathlib import Path


def ray_processes(*, settled_within_s: float = 20) -> set[int]:
    """Ids of Ray's processes, once no more of them go; those that are ending get some time to do so."""
    end = time.monotonic() + settled_within_s
    found = _now()
    while time.monotonic() < end:
        time.sleep(1)
        later = _now()
        if later == found:
            break
        found = later
    return found


def _now() -> set[int]:
    found = set()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has just ended
            continue
        if title.startswith("ray::") or "/raylet/raylet" in title or "gcs_server" in title:
            found.add(int(folder.name))
    return found
