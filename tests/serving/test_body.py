"""Reading a request's body: which limit it met is said by the limit that was set, not by a second look at a clock."""

import asyncio

import pytest
from starlette.requests import Request

from tis_ray.serving.body import read_image
from tis_ray.serving.messages import Deadline
from tis_ray.serving.problems import ProblemError


class EarlyBell(Deadline):
    """A deadline that the event loop's timer reaches a moment before its own clock does, as timers may."""

    @property
    def remaining_s(self) -> float:
        return max(super().remaining_s - 0.05, 0.0)

    @property
    def passed(self) -> bool:
        return False


async def read(stall_s: float, deadline: Deadline) -> bytes:
    async def nothing_comes() -> dict[str, object]:
        await asyncio.sleep(30)
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", b"image/jpeg")]}
    return await read_image(Request(scope, nothing_comes), max_bytes=100, stall_s=stall_s, deadline=deadline)


@pytest.mark.parametrize(
    ("stall_s", "deadline_s", "said"), [(5.0, 0.1, "the deadline passed"), (0.1, 5.0, "nothing came for 0.1 s")]
)
def test_a_body_that_never_comes_names_the_limit_it_met(stall_s, deadline_s, said):
    with pytest.raises(ProblemError, match=said):
        asyncio.run(read(stall_s, EarlyBell(deadline_s)))
