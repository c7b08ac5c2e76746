"""Memory that a process has freed goes back to the system.

glibc keeps what was freed for the next request, in an arena of its own for each thread: a gateway whose threads have
decoded six large pictures at once would stay 330 MB larger for good. Blocks from `_OWN_BLOCK` on are got from the
system one by one instead, and given back the moment they are freed.
"""

import ctypes

_M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
_OWN_BLOCK = 1 << 20  # bytes


def give_back_what_is_freed() -> bool:
    """Have this process do so from now on; False where its C library has no such switch."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_MMAP_THRESHOLD, _OWN_BLOCK))
