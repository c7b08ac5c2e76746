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
from tis_ray.errors import ConfigError, ServiceError

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


@pytest.mark.parametrize("lengths", [(5,), (5, 9, 12)], ids=str)
def test_the_log_of_a_job_that_has_ended_is_read_to_its_end(lengths: tuple[int, ...]) -> None:
    class Ended(Head):
        def job(self, job: str) -> JobDetails:
            return details(JobStatus.SUCCEEDED)

    shown: list[str] = []
    follow(Ended(*lengths), "job", show=shown.append)  # type: ignore[arg-type]
    assert shown == ["one", "two", "", "four ✓", "last"]


def test_a_log_that_cannot_be_read_to_its_end_is_given_up() -> None:
    class Lost(Head):
        async def tail(self, job: str) -> AsyncIterator[str]:
            yield "one\ntw"
            raise OSError("the node is gone")

    shown: list[str] = []
    follow(Lost(), "job", show=shown.append)  # type: ignore[arg-type]
    assert shown == ["one", "tw"]


def test_a_cluster_out_of_reach_for_a_while_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Away(Head):
        asked = 0

        def job(self, job: str) -> JobDetails:
            self.asked += 1
            if self.asked in (2, 3):
                raise ServiceError("no route")
            return details(JobStatus.RUNNING if self.asked < 4 else JobStatus.SUCCEEDED)

    shown: list[str] = []
    follow(Away(5), "job", show=shown.append)  # type: ignore[arg-type]
    assert shown == ["one", "two", "", "four ✓", "last"]
    monkeypatch.setattr(submit, "PATIENCE_S", -1)
    with pytest.raises(ServiceError, match="no route"):
        follow(Away(5), "job", show=shown.append)  # type: ignore[arg-type]


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
    metadata = {TARGETS: '{"r50":"/a/r50/checkpoint","r152":"/b/r152/checkpoint"}'}
    jobs = [
        details(JobStatus.SUCCEEDED, start_time=1000, end_time=66_000, metadata=metadata),
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


FOREIGN = {
    "no json": "r50",
    "a list": "[1]",
    "no paths": '{"r50": 3}',
    "a relative path": '{"r50": "r50/checkpoint"}',
    "a home folder": '{"r50": "/home/somebody"}',
    "another recipe's": '{"r50": "/a/r152/checkpoint"}',
}


@pytest.mark.parametrize("noted", FOREIGN.values(), ids=FOREIGN.keys())
def test_a_job_of_others_has_no_say_in_where_files_go_here(noted: str) -> None:
    job = details(JobStatus.SUCCEEDED, metadata={TARGETS: noted})
    assert submit.targets_of(job) == {}
    stranger = details(JobStatus.RUNNING, metadata={TARGETS: noted})
    stranger.submission_id = "[/] job of [bold]others"
    stream = StringIO()
    Console(file=stream, width=200).print(jobs_table([stranger]))
    assert stranger.submission_id in stream.getvalue()


def test_a_job_that_tis_ray_did_not_send_has_nothing_to_fetch() -> None:
    with pytest.raises(ConfigError, match=r"job: expected one that `tis-ray train --submit` sent; got job"):
        submit.fetch(Head(), "job", say=print)  # type: ignore[arg-type]


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3600, "1:00:00"), (-3, "0:00")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
