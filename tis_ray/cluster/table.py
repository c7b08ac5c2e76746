"""The jobs of a cluster as a table."""

import time
from collections.abc import Sequence
from datetime import datetime

from ray.job_submission import JobDetails
from rich.markup import escape
from rich.table import Table

from tis_ray.cluster.submit import targets_of

_COLOURS = {"SUCCEEDED": "green", "FAILED": "red", "STOPPED": "yellow", "RUNNING": "cyan"}


def jobs_table(jobs: Sequence[JobDetails], *, now_s: float | None = None) -> Table:
    """One row a job: name, status, recipes, when it started here, and how long it ran until its end or `now_s`."""
    table = Table(box=None, pad_edge=False)
    for column in ("job", "status", "recipes", "started", "duration"):
        table.add_column(column, no_wrap=column in ("job", "status"), overflow="fold")
    for job in jobs:
        status = str(job.status.value)
        started_s = (job.start_time or 0) / 1000
        ended_s = job.end_time / 1000 if job.end_time else now_s or time.time()
        table.add_row(
            escape(job.submission_id or ""),
            f"[{_COLOURS.get(status, 'default')}]{status}[/]",
            escape(", ".join(targets_of(job))),
            datetime.fromtimestamp(started_s).strftime("%Y-%m-%d %H:%M") if job.start_time else "",
            duration(ended_s - started_s) if job.start_time else "",
        )
    return table


def duration(seconds: float) -> str:
    """`1:02:03`, or `2:03` below an hour."""
    minutes, second = divmod(max(round(seconds), 0), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"
