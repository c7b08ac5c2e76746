"""What a batch run tells of how far it is."""

import io

import pytest
from rich.console import Console

from tis_ray.submission import progress


def test_speed_failures_and_the_time_left_are_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    told = io.StringIO()
    with progress.counted(120, Console(file=told, width=200)) as counts:
        for _ in range(30):
            now += 0.5
            counts.add()
        now += 5
        counts.add(10, failed=2, degraded=1)
    assert told.getvalue().splitlines() == [
        "segmenting: 20/120, 2.0 images/s, 0:00:50 left",
        "segmenting: 40/120, 2.0 images/s, 2 failed, 1 degraded, 0:00:40 left",
    ]


def test_a_terminal_gets_a_bar() -> None:
    told = io.StringIO()
    with progress.counted(3, Console(file=told, width=200, force_terminal=True)) as counts:
        counts.add(2, failed=1)
        assert counts.line().endswith(" images/s, 1 failed")
    assert "segmenting" in told.getvalue()
