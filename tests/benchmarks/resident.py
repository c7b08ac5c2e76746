"""Resident memory of this process, by the kernel's own marks.

`getrusage` does not serve for that: the peak that it tells a process begins with the memory of the one it was forked
from, which a benchmark that has just made its data fills.
"""

from pathlib import Path


def resident_mb(field: str = "VmHWM") -> float:
    """`VmHWM`, the peak, or `VmRSS` now, in MB."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024
