"""`tis-ray` in a process that kills itself: `python -m tests.submission.killed_driver POINT NUMBER predict ...`.

POINT is `write`, `rename` or `renamed`: before the shard of that many is written, before it gets its name, or after.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tis_ray import whole_files
from tis_ray.runs import shards


def main() -> None:
    """Arm the kill, then run the command."""
    point, number = sys.argv[1], int(sys.argv[2])
    if point == "write":
        shards.write = _dies(shards.write, lambda path, *_: True, number, after=False)
    else:
        whole_files.replace = _dies(whole_files.replace, _is_shard, number, after=point == "renamed")
    from tis_ray.cli import main as tis_ray

    sys.argv[1:] = sys.argv[3:]
    tis_ray()


def _is_shard(written: Path, path: Path) -> bool:
    return path.parent.name == "shards"


def _dies(real: Callable[..., Any], counts: Callable[..., bool], number: int, *, after: bool) -> Callable[..., Any]:
    """The function, which at its `number`-th call that counts kills the process, before or after its work."""
    left = number

    def armed(*arguments: Any, **options: Any) -> Any:
        nonlocal left
        left -= counts(*arguments)
        now = left == 0 and counts(*arguments)
        if now and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*arguments, **options)
        if now:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return armed


if __name__ == "__main__":
    main()
