"""Who looks at the images of a batch run: models in this process, or a service, asked from here or from the nodes of
its cluster."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from tis_ray.config import Ensemble
from tis_ray.errors import ConfigError
from tis_ray.runs.folder import RunFolder
from tis_ray.runs.records import ImageOutcome
from tis_ray.submission.beginning import ToDo
from tis_ray.submission.pipeline import Segmenter
from tis_ray.submission.progress import Counts, counted
from tis_ray.submission.replica_counts import NOTE, with_replicas
from tis_ray.submission.shard_work import segment_shards
from tis_ray.submission.stopping import terminable

IN_FLIGHT = 8
FEW_IMAGES = 100  # which one process has segmented before a service has started
Readers = Literal["here", "cluster"]


def is_alone(
    num_images: int, *, address: str | None, wanted: Mapping[str, int], readers: Readers | None, asked: bool | None
) -> bool:
    """Whether a run is this process's alone: where that is asked for, else where it is small and nothing speaks for a
    service. Raises `ConfigError` for replicas, and for readers on a cluster, in one process."""
    if asked and wanted:
        raise ConfigError("--in-process: expected no --replicas beside it, which are a service's; got both")
    if asked and readers == "cluster":
        raise ConfigError("--in-process: expected no --readers cluster beside it; got both")
    if asked is not None:
        return asked
    return address is None and not wanted and readers != "cluster" and num_images <= FEW_IMAGES


def look_alone(ensemble: Ensemble, run: RunFolder, todo: ToDo, *, console: Console, in_flight: int) -> None:
    """Do what is to do by models in this process."""
    from tis_ray.inference.ensemble import load
    from tis_ray.serving.versions import version_of
    from tis_ray.submission.in_process import InProcessSegmenter

    segmenter = InProcessSegmenter(load(ensemble), keep_views=run.keeps_views, model_version=version_of(ensemble))
    with counted(todo.num_images, console) as counts:
        _do_here(segmenter, run, todo, in_flight=in_flight, counts=counts)


def look(
    ensemble: Ensemble,
    run: RunFolder,
    todo: ToDo,
    *,
    console: Console,
    address: str | None,
    wanted: Mapping[str, int],
    stream: bool,
    in_flight: int | None,
    allow_degraded: bool,
) -> None:
    """Do what is to do by a service, from this process or, with `stream`, from the nodes of its cluster."""
    from tis_ray.serving.versions import version_of
    from tis_ray.submission.service import ServiceSegmenter
    from tis_ray.submission.streaming import enough_in_flight, served, stream_shards

    if in_flight is None:
        in_flight = enough_in_flight(max(wanted.values())) if wanted else IN_FLIGHT
    options: dict[str, Any] = {
        "deadline_s": ensemble.limits.max_deadline_s,
        "keep_views": run.keeps_views,
        "allow_degraded": allow_degraded,
        "model_version": version_of(ensemble),
    }
    with (
        _deployed(ensemble, run, address, wanted, console) as handle,
        terminable(),
        counted(todo.num_images, console) as counts,
    ):
        if not stream:
            with closing(ServiceSegmenter(handle, ensemble.views, **options)) as segmenter:
                _do_here(segmenter, run, todo, in_flight=in_flight, counts=counts)
            return
        shards = stream_shards(
            run,
            todo.numbers,
            open_segmenter=served(ensemble.views, **options),
            in_flight=in_flight,
            again=todo.again,
            has_worked=todo.has_worked,
        )
        with closing(shards):
            for done in shards:
                counts.add(done.num_images, failed=done.num_failed, degraded=done.num_degraded)


def _do_here(segmenter: Segmenter, run: RunFolder, todo: ToDo, *, in_flight: int, counts: Counts) -> None:
    def tell(outcome: ImageOutcome) -> None:
        counts.add(failed=outcome.status == "failed", degraded=outcome.status == "degraded")

    shards = segment_shards(
        segmenter,
        run,
        todo.numbers,
        in_flight=in_flight,
        again=todo.again,
        has_worked=todo.has_worked,
        on_image=tell,
    )
    with closing(shards):
        for _ in shards:
            pass


@contextmanager
def _deployed(
    ensemble: Ensemble, run: RunFolder, address: str | None, wanted: Mapping[str, int], console: Console
) -> Iterator[Any]:
    """The fusion of a service of the ensemble, with as many replicas as are wanted."""
    from tis_ray.serving.local import free_port, serve_locally
    from tis_ray.serving.running import connect, disconnect, fusion_handle
    from tis_ray.submission.replicas import more_replicas

    if address is None:
        with serve_locally(with_replicas(ensemble, wanted), port=free_port(), on_progress=console.print):
            yield fusion_handle()
        return
    with ExitStack() as stack:
        handle = connect(address, ensemble)
        stack.callback(disconnect)
        stack.enter_context(more_replicas(wanted, folder=run.path, say=console.print))
        yield handle


def put_back(run: Path, console: Console) -> None:
    """Make good what a run that was killed may have left of `--replicas`."""
    if (run / NOTE).exists():
        from tis_ray.submission import replicas

        replicas.put_back(run, say=lambda line: console.print(line, soft_wrap=True))
