"""A job's log cut into lines through broken connections, what it says at the end, and the table of jobs.

The head is a stand-in: a connection that breaks at a chosen letter cannot be had from a real one.
"""

import asyncio
from collections.abc import AsyncIterator
from io import StringIO
from typing import Any

import pytest
from ray.job_submission import JobDetails, JobStatus
from rich.console import Console

from tis_ray.cluster import submit
from tis_ray.cluster.submit import TARGETS, JobError, error_line, follow
from tis_ray.cluster.table import duration, jobs_table

LOG = "one\ntwo\r\n\nfour ✓\nlast"


def details(status: JobStatus, **fields: Any) -> JobDetails:
    return JobDetails(type="SUBMISSION", submission_id="job", status=status, entrypoint="python", **fields)


class Head:
    """Sends the log from its beginning at each connection, and breaks the first ones off."""

    def __init__(self, *lengths: int, status: JobStatus = JobStatus.SUCCEEDED, log: str = LOG, piece: int = 3) -> None:
        self._lengths, self._status, self._log, self._piece = list(lengths), status, log, piece

    async def tail(self, job: str) -> AsyncIterator[str]:
        length = self._lengths.pop(0) if self._lengths else len(self._log) + 1
        for start in range(0, min(length, len(self._log)), self._piece):
            yield self._log[start : min(start + self._piece, length)]
        if length <= len(self._log):
            self._broken = True
            raise RuntimeError("closed unexpectedly")

    def job(self, job: str) -> JobDetails:
        running, self._broken = getattr(self, "_broken", False), False
        return details(JobStatus.RUNNING if running else self._status)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "POLL_S", 0)


@pytest.mark.parametrize("piece", [1, 3, 100])
@pytest.mark.parametrize("lengths", [(), (0,), (5,), (4, 4), (10, 3, 12)], ids=str)
def test_every_line_is_shown_once_however_often_the_connection_breaks(lengths: tuple[int, ...], piece: int) -> None:
    shown: list[str] = []
    follow(Head(*lengths, piece=piece), "job", show=shown.append)  # type: ignore[arg-type]
    assert shown == ["one", "two", "", "four ✓", "last"]


def test_a_failed_job_raises_its_last_error() -> None:
    log = "error: first\nTraceback\nerror: data.train: expected a file\n\n"
    with pytest.raises(JobError, match=r"^job failed: error: data\.train: expected a file$"):
        follow(Head(status=JobStatus.FAILED, log=log), "job", show=lambda line: None)  # type: ignore[arg-type]


def test_a_stopped_job_says_so() -> None:
    with pytest.raises(JobError, match=r"^job was stopped$"):
        follow(Head(status=JobStatus.STOPPED), "job", show=lambda line: None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["error: a", "ValueError: b", ""], "error: a"),
        (["Traceback", "  ValueError: b  ", " "], "ValueError: b"),
        ([], ""),
    ],
)
def test_the_line_that_says_why(lines: list[str], expected: str) -> None:
    assert error_line(lines) == expected


def test_stopping_waits_for_the_end() -> None:
    class Stoppable(Head):
        stopped = False

        def stop(self, job: str) -> None:
            self.stopped = True

        def job(self, job: str) -> JobDetails:
            return details(JobStatus.STOPPED if self.stopped else JobStatus.RUNNING)

    head = Stoppable()
    assert submit.stop(head, "job") == JobStatus.STOPPED  # type: ignore[arg-type]
    assert head.stopped
    assert asyncio.run(submit._ended(head, "job", 1)) == JobStatus.STOPPED  # type: ignore[arg-type]


def test_the_table_tells_name_status_recipes_and_durations() -> None:
    jobs = [
        details(JobStatus.SUCCEEDED, start_time=1000, end_time=66_000, metadata={TARGETS: '{"r50":"/a","r152":"/b"}'}),
        details(JobStatus.RUNNING, start_time=50_000),
        details(JobStatus.PENDING),
    ]
    stream = StringIO()
    Console(file=stream, width=200).print(jobs_table(jobs, now_s=3750))
    rows = [line.split() for line in stream.getvalue().splitlines()]
    assert rows[0] == ["job", "status", "recipes", "started", "duration"]
    assert rows[1][:4] == ["job", "SUCCEEDED", "r50,", "r152"]
    assert (rows[1][-1], rows[2][-1]) == ("1:05", "1:01:40")
    assert rows[3] == ["job", "PENDING"]


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3600, "1:00:00"), (-3, "0:00")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
