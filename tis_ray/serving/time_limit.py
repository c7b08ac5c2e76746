"""A limit to how long something is waited for, which leaves nothing behind.

`asyncio.timeout` knows its task, and a task keeps the failure that ended it, whose traceback keeps every frame between:
where one of these has the timeout among its variables, all of them, and the picture that they were about, wait for the
garbage collector, which in a process that does little comes by hundreds of requests later.
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

_Answer = TypeVar("_Answer")


class TimeIsUpError(Exception):
    """What was waited for did not come in time; no `TimeoutError`, which it may itself have ended with."""


async def in_time(work: Awaitable[_Answer], seconds: float) -> _Answer:
    """What `work` gives, which is cancelled after so many seconds. Raises `TimeIsUpError` then."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await work
    except TimeoutError:
        if not limit.expired():
            raise
    finally:
        del limit
    raise TimeIsUpError  # not where it was caught: asyncio's own error would come along, and its frames with it
