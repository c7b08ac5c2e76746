"""Commands for the jobs of a cluster: jobs, stop."""

from typing import TYPE_CHECKING, Annotated

import typer

from tis_ray.cli.shared import console, news
from tis_ray.errors import ServiceError

if TYPE_CHECKING:
    from tis_ray.cluster.head import Head

Address = Annotated[
    str,
    typer.Option(
        envvar=["RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"],
        show_default=False,
        metavar="URL",
        help="Ray dashboard of the cluster, as http://HEAD:8265.",
    ),
]


def jobs(
    address: Address = "",
    follow: Annotated[
        str | None, typer.Option(metavar="JOB", help="Follow this job's log to its end, and fetch its checkpoints.")
    ] = None,
) -> None:
    """List the jobs of a cluster, or follow one.

    Example: `tis-ray jobs --address http://HEAD:8265`
    """
    from tis_ray.cluster.table import jobs_table

    head = head_at(address)
    if follow is not None:
        follow_and_fetch(head, follow)
    else:
        console().print(jobs_table(head.jobs()))


def stop(
    job: Annotated[str, typer.Argument(help="Name of the job, as `tis-ray jobs` lists it.")],
    address: Address = "",
) -> None:
    """Stop a job of a cluster. Its runs keep their checkpoints and can be resumed.

    Example: `tis-ray stop JOB --address http://HEAD:8265`
    """
    from tis_ray.cluster.submit import stop as end

    print(f"{job}: {end(head_at(address), job).value}")


def head_at(address: str) -> "Head":
    from tis_ray.cluster.head import Head

    return Head(address)


def follow_and_fetch(head: "Head", job: str) -> None:
    """Show a job's log, then fetch its checkpoints; Ctrl-C leaves the job alone."""
    from tis_ray.cluster.submit import fetch, follow

    again = f"tis-ray jobs --follow {job} --address {head.address}"
    news(f"job: {job}; Ctrl-C leaves it running")
    try:
        follow(head, job, show=news)
        for folder in fetch(head, job, say=news):
            print(f"checkpoint: {folder}")
    except (KeyboardInterrupt, ServiceError):
        news(f"{job} was left alone; follow it and fetch its checkpoints: {again}")
        news(f"stop it: tis-ray stop {job} --address {head.address}")
        raise
