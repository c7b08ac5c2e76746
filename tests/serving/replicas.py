"""The service's replica processes, found by their titles under /proc."""

import os
from pathlib import Path


def replica_processes() -> dict[str, list[Path]]:
    """The /proc folders of the replicas that this test session started, by deployment name."""
    found: dict[str, list[Path]] = {}
    for folder in Path("/proc").iterdir():
        try:
            title = (folder / "cmdline").read_bytes().rstrip(b"\0 ").decode(errors="replace")
            if title.startswith("ray::ServeReplica:tis-ray:") and os.getpid() in _ancestors(folder):
                name = title.removeprefix("ray::ServeReplica:tis-ray:").split(".")[0].split()[0]
                found.setdefault(name, []).append(folder)
        except OSError:  # not a process, or one that has just ended
            continue
    return found


def own_processes(title: str) -> list[int]:
    """Ids of the processes that this test session started, also by its Ray, whose titles begin like that."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes().startswith(title.encode()) and os.getpid() in _ancestors(folder):
                found.append(int(folder.name))
        except OSError:  # it has just ended
            continue
    return found


def _ancestors(folder: Path) -> list[int]:
    pids = []
    while folder.name not in ("0", "1"):
        status = (folder / "status").read_text()
        parent = next(line.split()[1] for line in status.splitlines() if line.startswith("PPid:"))
        pids.append(int(parent))
        folder = folder.parent / parent
    return pids
