"""The whole system on one machine, from nothing: scenes, training, service, query, submission and scores.

`make demo` runs it. Ray is started once for all of it and stopped at the end.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml
from rich.console import Console

from tis_ray.config import CocoFolder, Ensemble, load_ensemble, load_recipe
from tis_ray.demo.data import scenes, user_data
from tis_ray.errors import ConfigError, ServiceError
from tis_ray.evaluation.table import members_table
from tis_ray.formats import coco
from tis_ray.formats.coco import CocoDataset
from tis_ray.formats.dataset import ImageRecord
from tis_ray.formats.image_list import read_image_list
from tis_ray.formats.images import open_image
from tis_ray.formats.members import ensemble_categories, ensemble_sizes
from tis_ray.submission.members import score_members
from tis_ray.submission.progress import watched

MEMBERS = {"resnet18": "tiny_resnet18", "shufflenet": "tiny_shufflenet"}
SCALES = (288, 432)
BOOTSTRAP = 200
NUM_CPUS = 8  # Ray's count of slots, not of cores: two trainings, then six small deployments, share what there is


@dataclass(frozen=True, slots=True)
class Folders:
    """Where the demo puts things."""

    out: Path

    @property
    def ensemble(self) -> Path:
        return self.out / "ensemble.yaml"

    @property
    def overlay(self) -> Path:
        return self.out / "overlay.png"

    @property
    def results(self) -> Path:
        return self.out / "results.json"

    @property
    def scores(self) -> Path:
        return self.out / "scores.json"


def run_demo(out: Path, *, data: Path | None, seed: int, console: Console) -> None:
    """Run every step into the folder `out`; members that were trained there before are not trained again.

    data: COCO-format folder to use in place of scenes. Raises `TisRayError` for what a user can mend.
    """
    started = time.perf_counter()
    folders = Folders(out)
    _claim(out, data, seed)
    with _step(console, "scenes" if data is None else f"images of {data}"):
        train_json, val_json, images = scenes(out, seed) if data is None else user_data(data, out)
    with _ray():
        with _step(console, f"training {' and '.join(MEMBERS)} side by side"):
            checkpoints = _train(out, train_json, val_json, images, seed, console)
        ensemble = _write_ensemble(folders, checkpoints)
        dataset = coco.read(val_json, images)
        with _step(console, "service, one query and the submission"):
            rows = _serve_and_score(ensemble, dataset, folders, val_json, images, console)
    console.print(members_table(rows))
    folders.scores.write_bytes(
        orjson.dumps({name: report.to_json() for name, report in rows}, option=orjson.OPT_INDENT_2)
    )
    console.print(
        f"AP in percent on {len(dataset)} validation images, 95% bootstrap intervals. "
        f"Everything took {time.perf_counter() - started:.0f} s and lies in {out}:\n"
        f"  {folders.overlay}  what the ensemble found in one image\n"
        f"  {folders.ensemble}  the ensemble; serve it again with: tis-ray serve {folders.ensemble}\n"
        f"  {folders.results}  the submission; {folders.scores}  the table\n"
        f"  {out / 'runs'}  checkpoints and losses; see them with: tensorboard --logdir {out / 'runs'}"
    )


def _claim(out: Path, data: Path | None, seed: int) -> None:
    """Note in `out` what the demo runs on. Raises `ConfigError` where another one has run there."""
    settings = {"data": None if data is None else str(data.resolve()), "seed": seed}
    note = out / "demo.json"
    if note.exists() and (before := orjson.loads(note.read_bytes())) != settings:
        raise ConfigError(f"out: {out} holds a demo with {before}; choose another folder for {settings}")
    out.mkdir(parents=True, exist_ok=True)
    note.write_bytes(orjson.dumps(settings))


@contextmanager
def _step(console: Console, title: str) -> Iterator[None]:
    console.print(f"[bold]{title}[/]")
    started = time.perf_counter()
    yield
    console.print(f"  {time.perf_counter() - started:.0f} s")


@contextmanager
def _ray() -> Iterator[None]:
    import ray

    from tis_ray import local_ray
    from tis_ray.training.trainer import LOCAL_RAY

    local_ray.start(num_cpus=NUM_CPUS, runtime_env={"env_vars": LOCAL_RAY})
    try:
        yield
    finally:
        ray.shutdown()


# -------------------------------------------------------------------------------------------------- training


def _train(out: Path, train_json: Path, val_json: Path, images: Path, seed: int, console: Console) -> list[Path]:
    from tis_ray.training.progress import RunProgress
    from tis_ray.training.trainer import train

    folders = {
        "train": CocoFolder(annotations=train_json, images=images),
        "val": CocoFolder(annotations=val_json, images=images),
    }
    recipes = []
    for name in MEMBERS.values():
        recipe = load_recipe(name)
        data = recipe.data.model_copy(update=folders)
        recipes.append(recipe.model_copy(update={"data": data, "output": out / "runs", "seed": seed}))
    losses: dict[str, dict[int, float]] = {recipe.name: {} for recipe in recipes}

    def note(run: RunProgress) -> None:
        if run.loss is not None and run.epoch < run.epochs:
            losses[run.recipe][run.epoch] = run.loss  # the last word of each epoch stays

    checkpoints = train(recipes, resume=True, on_progress=note, console=console)
    for name, by_epoch in losses.items():
        if by_epoch:
            console.print(f"  {name}: loss at the end of each epoch {' '.join(f'{x:.2f}' for x in by_epoch.values())}")
    return checkpoints


def ensemble_content(checkpoints: Mapping[str, str]) -> dict[str, Any]:
    """The ensemble file: all members at two scales, mirrored too; big objects are left to the smaller scale."""
    return {
        "members": {
            name: {"checkpoint": path, "scales": list(SCALES), "max_long_edge": 1333, "flip": True}
            for name, path in checkpoints.items()
        },
        "fusion": {
            "ranges": {f"@{SCALES[1]}": [0, 96]},
            "rules": [{"nms": {"iou_threshold": 0.7}}, {"soft_nms": {"method": "linear", "iou_threshold": 0.5}}],
            "masks": "best",
            "top_k": 100,
        },
    }


def _write_ensemble(folders: Folders, checkpoints: Sequence[Path]) -> Ensemble:
    here = folders.out.resolve()
    paths = {name: str(path.resolve().relative_to(here)) for name, path in zip(MEMBERS, checkpoints, strict=True)}
    folders.ensemble.write_text(yaml.safe_dump(ensemble_content(paths), sort_keys=False))
    return load_ensemble(folders.ensemble)


# --------------------------------------------------------------------------------------------------- service


def _serve_and_score(
    ensemble: Ensemble, dataset: CocoDataset, folders: Folders, val_json: Path, images: Path, console: Console
) -> list[tuple[str, object]]:
    from tis_ray.serving.local import free_port, serve_locally
    from tis_ray.serving.running import fusion_handle
    from tis_ray.submission.pipeline import segment_images
    from tis_ray.submission.service import ServiceSegmenter
    from tis_ray.submission.writing import write_results

    categories, listed = ensemble_categories(ensemble), read_image_list(val_json, images)
    open_to_all = ensemble.model_copy(update={"auth": "none"})  # on the loopback interface, for a minute
    with serve_locally(open_to_all, port=free_port()) as service:
        _query(service.url, dataset, folders, console)
        with closing(ServiceSegmenter(fusion_handle(), ensemble.views, deadline_s=120, keep_views=True)) as segmenter:
            results = list(watched(segment_images(segmenter, listed, in_flight=4), len(listed), console))
    outcomes = (result.outcome for result in results)
    summary = write_results(outcomes, folders.results, categories=categories, written=dataset.categories)
    if summary.failed:
        console.print(f"  {len(summary.failed)} images failed, listed in {summary.failures_file}")
    if len(summary.failed) == len(results):
        raise ServiceError(f"no image of {val_json} could be segmented; first: {summary.failed[0].error}")
    sizes = ensemble_sizes(ensemble)
    return score_members(ensemble, results, dataset, categories=categories, sizes=sizes, bootstrap=BOOTSTRAP)


def _query(url: str, dataset: CocoDataset, folders: Folders, console: Console) -> None:
    """Ask for the validation image of the most classes, of about a dozen objects, over HTTP and draw the answer."""
    from tis_ray.overlay import draw_overlay
    from tis_ray.serving.client import Client

    def variety(record: ImageRecord) -> tuple[int, int]:
        entries = dataset.entries(record.id)
        return len({entry["category_id"] for entry in entries}), -abs(len(entries) - 12)

    chosen = max(dataset.images, key=variety)
    with Client(url) as client:
        result = client.segment(chosen.path, score_threshold=0.5)
    draw_overlay(open_image(chosen.path), result.instances, categories=dataset.categories, score_threshold=0.5).save(
        folders.overlay
    )
    console.print(f"  {url} found {len(result.instances)} objects in {chosen.path.name}: {folders.overlay}")
