"""The jobs of a cluster as a table."""

import time
from collections.abc import Sequence
from datetime import datetime

import orjson
from ray.job_submission import JobDetails
from rich.table import Table

from tis_ray.cluster.submit import TARGETS

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
            job.submission_id,
            f"[{_COLOURS.get(status, 'default')}]{status}[/]",
            recipes_of(job),
            datetime.fromtimestamp(started_s).strftime("%Y-%m-%d %H:%M") if job.start_time else "",
            duration(ended_s - started_s) if job.start_time else "",
        )
    return table


def recipes_of(job: JobDetails) -> str:
    """Names of the recipes that a job trains; nothing for a job that is not tis-ray's."""
    return ", ".join(orjson.loads((job.metadata or {}).get(TARGETS, "{}")))


def duration(seconds: float) -> str:
    """`1:02:03`, or `2:03` below an hour."""
    minutes, second = divmod(max(round(seconds), 0), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"
