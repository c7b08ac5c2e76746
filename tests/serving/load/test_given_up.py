"""Whoever hangs up, or whose time is up, no longer keeps the models from those who wait."""

import socket
import statistics
import time

import httpx
import pytest

from tests.serving.load.footprint import settled
from tests.serving.load.offering import Pictures, ask

pytestmark = [pytest.mark.ray, pytest.mark.slow]

GONE = 6  # of the eight that the gateway holds


def test_those_who_hang_up_leave_the_models_to_the_next(slow_pictures):
    alone_s = quiet_s(slow_pictures)
    store_mb = settled()
    connections = [half_asked(slow_pictures, number) for number in range(GONE)]
    time.sleep(alone_s / 2)  # the first one's forward runs, the others wait behind it
    for connection in connections:
        connection.close()
    (fate,) = ask(slow_pictures, count=1, together=1)
    held_mb = settled()
    print(
        f"Alone a request takes {alone_s:.2f} s. After {GONE} others had been sent and given up, one took "
        f"{fate.seconds:.2f} s; with their work it would have taken {(GONE + 1) * alone_s:.2f} s or so. "
        f"Object store {store_mb:.0f} MB before, {held_mb:.0f} MB after."
    )
    assert fate.status == 200
    assert fate.seconds < (GONE + 1) * alone_s / 2
    assert held_mb <= store_mb + 1


def test_those_whose_time_is_up_leave_the_models_to_the_next(slow_pictures):
    alone_s = quiet_s(slow_pictures)
    hasty = Pictures(slow_pictures.url, slow_pictures.contents, deadline_s=1.5 * alone_s)
    fates = ask(hasty, count=GONE, together=GONE)
    (fate,) = ask(slow_pictures, count=1, together=1)
    late = [one for one in fates if one.status != 200]
    print(
        f"Of {GONE} at once with {hasty.deadline_s:.2f} s each, {len(late)} were not answered in time and told "
        f"so after at most {max(one.seconds for one in fates):.2f} s; the next one took {fate.seconds:.2f} s, "
        f"alone it takes {alone_s:.2f} s."
    )
    assert late
    assert {one.status for one in fates} <= {200, 503, 504}
    assert fate.status == 200
    assert fate.seconds < (GONE + 1) * alone_s / 2


def quiet_s(pictures: Pictures) -> float:
    """What a request takes that is alone, in the middle of some."""
    return statistics.median(fate.seconds for fate in ask(pictures, count=5, together=1))


def half_asked(pictures: Pictures, number: int) -> socket.socket:
    """A connection over which a whole request has been sent, and whose answer nobody reads."""
    address = httpx.URL(pictures.url)
    content = pictures.contents[number % len(pictures.contents)]
    head = (
        f"POST /v1/segment?deadline_s={pictures.deadline_s} HTTP/1.1\r\nHost: {address.host}\r\n"
        f"Content-Type: {pictures.content_type}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    connection = socket.create_connection((address.host, address.port), timeout=60)
    connection.sendall(head.encode() + content)
    return connection
