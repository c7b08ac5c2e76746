"""What memory and how much computing the service's processes take, by what the kernel says of them."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_SHOWN = {
    "raylet": "raylet",
    "gcs_server": "GCS",
    "ray::ServeController": "controller",
    "ray::ProxyActor": "proxy",
    "ray::MapWorker": "readers",
    "ray::IDLE": "idle",
}


@dataclass(frozen=True)
class Memory:
    """MB of one process or of several: `pss_mb` shares what several map among them, of which `store_mb` are pages of
    the object store; `own_mb` is what is resident without those."""

    pss_mb: float
    own_mb: float
    store_mb: float = 0.0

    def __add__(self, other: "Memory") -> "Memory":
        sums = (self.pss_mb + other.pss_mb, self.own_mb + other.own_mb, self.store_mb + other.store_mb)
        return Memory(*sums)


def of_process(pid: int) -> Memory:
    """Of one process. Raises `OSError` where it has ended."""
    rolled = _fields(Path(f"/proc/{pid}/smaps_rollup"))
    status = _fields(Path(f"/proc/{pid}/status"))
    if "RssAnon" not in status:  # it is just ending
        raise ProcessLookupError(pid)
    own_kb = status["RssAnon"] + status["RssFile"]
    return Memory(rolled["Pss"] / 1024, own_kb / 1024, rolled["Pss_Shmem"] / 1024)


def footprint() -> dict[str, Memory]:
    """Of this process's Ray, by what its processes are: `Gateway`, `proxy`, `raylet`, ...; several are added up.

    Workers that wait for something to do are left out: Ray starts and ends them as it likes.
    """
    found: dict[str, Memory] = {}
    for pid, title in _descendants(os.getpid()):
        name = kind(title)
        if name is None:
            continue
        try:
            found[name] = found.get(name, Memory(0, 0)) + of_process(pid)
        except OSError:
            continue
    return dict(sorted(found.items()))


def cpu_seconds() -> dict[str, float]:
    """What this process's Ray has computed since it started, by what its processes are."""
    found: dict[str, float] = {}
    for pid, title in _descendants(os.getpid()):
        name = kind(title)
        if name is not None:
            with suppress(OSError):
                found[name] = found.get(name, 0.0) + cpu_s(pid)
    return found


def cpu_s(pid: int) -> float:
    """What one process has computed since it started. Raises `OSError` where it has ended."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def total(processes: dict[str, Memory]) -> Memory:
    """Of all of them together."""
    return sum(processes.values(), Memory(0, 0))


def store_mb() -> float:
    """What the object store of this process's Ray holds at the moment, by the raylet's own account."""
    import ray
    from ray._private.internal_api import get_memory_info_reply, get_state_from_address

    state = get_state_from_address(ray.get_runtime_context().gcs_address)
    return float(get_memory_info_reply(state).store_stats.object_store_bytes_used) / 1e6


@contextmanager
def watched(*, every_s: float = 1.0) -> Iterator[list[dict[str, Memory]]]:
    """The footprint again and again while the block runs."""
    seen = [footprint()]
    done = threading.Event()

    def look() -> None:
        while not done.wait(every_s):
            seen.append(footprint())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()
        seen.append(footprint())


def settled(*, quiet_s: float = 5.0, within_s: float = 60.0) -> float:
    """The object store in MB once it has not become smaller for `quiet_s` seconds, at most after `within_s`.

    Ray lets go of objects some time after nobody refers to them.
    """
    least, since = store_mb(), time.monotonic()
    end = since + within_s
    while time.monotonic() < min(since + quiet_s, end):
        time.sleep(0.5)
        now = store_mb()
        if now < least:
            least, since = now, time.monotonic()
    return store_mb()


def _fields(file: Path) -> dict[str, int]:
    """The values in kB of a file of /proc, by name."""
    lines = (line.split() for line in file.read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in lines if len(words) == 3 and words[2] == "kB"}


def kind(title: str) -> str | None:
    """What a process of Ray's is by its title; None for those that are left out and for what is not Ray's."""
    if title.startswith("ray::ServeReplica:"):
        return title.removeprefix("ray::ServeReplica:").partition(":")[2].split(".")[0].split()[0].split("#")[0]
    for start, name in _SHOWN.items():
        if title.startswith(start) or f"/{start}" in title.split(" ")[0]:
            return None if name == "idle" else name
    return "Ray's agents" if "/ray/" in title else None


def _descendants(pid: int) -> list[tuple[int, str]]:
    """Ids and titles of all processes below `pid`."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The name may hold blanks and brackets: what follows the last one is regular.
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        parents.setdefault(parent, []).append(int(folder.name))
    found, open_ = [], [pid]
    while open_:
        for child in parents.get(open_.pop(), []):
            open_.append(child)
            try:
                title = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            found.append((child, title.strip()))
    return found
