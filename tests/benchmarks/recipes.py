"""Every `tiny_` recipe from its one file: trained on scenes, served, asked and scored; a table for `docs/recipes.md`.

    make recipes

Recipes that are trained or scored already in the folder `--out` are not trained or scored again. One that starts from
another's checkpoint is trained after that, which is trained too where it is not asked for.
"""

import argparse
import platform
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from tis_ray.config import CocoFolder, Recipe, load_ensemble, load_recipe
from tis_ray.config.reading import SHIPPED_RECIPES
from tis_ray.formats import coco
from tis_ray.formats.members import ensemble_categories

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"
SCENES, NUM_IMAGES, VAL_FRACTION = Path("scenes"), 340, 40 / 340
BOOTSTRAP = 200
NUM_CPUS = 8  # Ray's count of slots, not of cores
_FIGURES = re.compile(r"(<!-- figures -->\n).*?(<!-- end of figures -->)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Row:
    """One recipe's line. AP in 0..1 with its 95% interval, None where the detector finds no masks."""

    recipe: str
    parts: str
    minutes: float
    views: int
    seconds_per_image: float
    box: tuple[float, float, float]
    mask: tuple[float, float, float] | None


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the recipes that are asked for, print the table and put it between the marks of the page."""
    parser = argparse.ArgumentParser(description="Train, serve and score every tiny recipe.")
    parser.add_argument("recipes", nargs="*", default=names(), help="names of recipes; default: all that learn scenes")
    parser.add_argument("--out", type=Path, default=Path("runs/recipes"), help="folder for scenes, runs and results")
    parser.add_argument("--page", type=Path, default=PAGE, help="page that the table is written into")
    parser.add_argument("--images", type=int, default=NUM_IMAGES, help="scenes to draw, 40 of 340 for validation")
    parser.add_argument("--together", type=int, default=2, help="recipes that train side by side")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=value", help="change a key of all recipes")
    asked = parser.parse_args(arguments)
    rows = measure(asked.recipes, out=asked.out, num_images=asked.images, together=asked.together, overrides=asked.set)
    figures = f"{_machine(asked.together)}\n\n{table(rows)}"
    write(asked.page, figures)
    print(figures)


def names() -> list[str]:
    """The tiny recipes that learn from scenes."""
    found = sorted(path.stem for path in SHIPPED_RECIPES.glob("tiny_*.yaml"))
    return [name for name in found if _learns_scenes(load_recipe(name))]


def measure(
    recipes: Sequence[str], *, out: Path, num_images: int, together: int, overrides: Sequence[str] = ()
) -> list[Row]:
    """A row for each recipe, `together` of them trained side by side."""
    out.mkdir(parents=True, exist_ok=True)
    loaded = {name: _over_scenes(load_recipe(name, overrides), out, num_images) for name in with_starts(recipes)}
    with _ray():
        for batch in batches(list(loaded.values()), together):
            _train(batch, out)
        return [_scored(loaded[name], out) for name in recipes]


def with_starts(recipes: Sequence[str]) -> list[str]:
    """The recipes' names, each after that of the one whose checkpoint it starts from."""
    found: dict[str, None] = {}
    for name in recipes:
        start = load_recipe(name).start
        found |= dict.fromkeys([*(with_starts([start.checkpoint.parent.name]) if start else ()), name])
    return list(found)


def batches(recipes: Sequence[Recipe], together: int) -> list[list[Recipe]]:
    """The recipes in their order, at most `together` at a time, none beside the one that it starts from."""
    found: list[list[Recipe]] = []
    for recipe in recipes:
        beside = {one.run_dir / "checkpoint" for one in found[-1]} if found else set()
        if not found or len(found[-1]) == together or (recipe.start and recipe.start.checkpoint in beside):
            found.append([])
        found[-1].append(recipe)
    return found


def write(page: Path, figures: str) -> None:
    """Put the figures between the marks of the page."""
    page.write_text(_FIGURES.sub(lambda match: f"{match[1]}\n{figures}\n\n{match[2]}", page.read_text()))


# --------------------------------------------------------------------------------------------------------- Steps


def _learns_scenes(recipe: Recipe) -> bool:
    train = None if recipe.data is None else recipe.data.train
    return isinstance(train, CocoFolder) and train.annotations.parent == SCENES


def _over_scenes(recipe: Recipe, out: Path, num_images: int) -> Recipe:
    """The recipe with the scenes that its header asks for, drawn where they are not there yet, and runs in `out`.

    A run that it starts from is looked for there as well.
    """
    from tis_ray.data.scenes import write_scenes

    preset = "longtail" if "lvis" in recipe.name else "driving"
    folder = out / f"scenes_{preset}"
    stuff = folder / "stuff" if recipe.detector.stuff is not None else None
    if not (folder / "instances_val.json").exists() or (stuff is not None and not stuff.is_dir()):
        write_scenes(folder, num_images=num_images, preset=preset, val_fraction=VAL_FRACTION)
    data = recipe.data.model_copy(
        update={
            "train": CocoFolder(annotations=folder / "instances_train.json", stuff=stuff),
            "val": CocoFolder(annotations=folder / "instances_val.json"),
        }
    )
    start = recipe.start
    if start is not None:
        start = start.model_copy(update={"checkpoint": out / start.checkpoint.parent.name / "checkpoint"})
    return recipe.model_copy(update={"data": data, "start": start, "output": out})


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


def _train(recipes: Sequence[Recipe], out: Path) -> None:
    """Train the recipes side by side and note the minutes of each, from its first step to its checkpoint."""
    from tis_ray.training.progress import RunProgress
    from tis_ray.training.trainer import train

    recipes = [recipe for recipe in recipes if not _noted(out, recipe.name)]
    if not recipes:
        return
    for recipe in recipes:
        shutil.rmtree(recipe.run_dir, ignore_errors=True)  # one that was stopped, of unknown minutes
    began: dict[str, float] = {}
    ended: dict[str, float] = {}

    def note(run: RunProgress) -> None:
        if run.step:
            began.setdefault(run.recipe, time.perf_counter())
        ended[run.recipe] = time.perf_counter()

    train(recipes, on_progress=note, console=Console(stderr=True, highlight=False))
    for name, start in began.items():
        _note(out, name, {"minutes": (ended[name] - start) / 60})


def _scored(recipe: Recipe, out: Path) -> Row:
    noted = _noted(out, recipe.name)
    if "box" not in noted:
        noted |= _serve_and_score(recipe, out)
        _note(out, recipe.name, noted)
    return Row(recipe.name, parts(recipe), **noted)


def _serve_and_score(recipe: Recipe, out: Path) -> dict[str, Any]:
    """Serve the run's checkpoint folder, ask it over HTTP, segment the validation set through it and score that."""
    from tis_ray.evaluation.coco import evaluate
    from tis_ray.formats.coco_results import read_results
    from tis_ray.formats.image_list import read_image_list
    from tis_ray.serving.client import Client
    from tis_ray.serving.local import free_port, serve_locally
    from tis_ray.serving.running import fusion_handle
    from tis_ray.submission.pipeline import segment_images
    from tis_ray.submission.service import ServiceSegmenter
    from tis_ray.submission.writing import write_results

    ensemble, val = load_ensemble(recipe.run_dir / "checkpoint"), recipe.data.val.annotations
    dataset, listed = coco.read(val), read_image_list(val, None)
    with serve_locally(ensemble, port=free_port()) as service, Client(service.url) as client:
        client.segment(dataset.images[0].path)
        with closing(ServiceSegmenter(fusion_handle(), ensemble.views, deadline_s=120)) as segmenter:
            started = time.perf_counter()
            results = list(segment_images(segmenter, listed, in_flight=2))
            seconds = time.perf_counter() - started
    file = out / f"{recipe.name}.json"
    outcomes = (result.outcome for result in results)
    summary = write_results(outcomes, file, categories=ensemble_categories(ensemble), written=dataset.categories)
    if summary.failed:
        sys.exit(f"{recipe.name}: {len(summary.failed)} images failed, first: {summary.failed[0].error}")
    report = evaluate(dataset, read_results(file, dataset), bootstrap=BOOTSTRAP)
    with_masks = recipe.detector.mask is not None and not recipe.detector.mask.only_in_training
    return {
        "views": len(ensemble.views),
        "seconds_per_image": seconds / len(listed),
        "box": _with_interval(report["bbox"]),
        "mask": _with_interval(report["segm"]) if with_masks else None,
    }


def _with_interval(scores: Any) -> tuple[float, float, float]:
    return (scores.AP, *(scores.AP_interval or (scores.AP, scores.AP)))


def _noted(out: Path, name: str) -> dict[str, Any]:
    file = out / f"{name}_row.json"
    return orjson.loads(file.read_bytes()) if file.exists() else {}


def _note(out: Path, name: str, values: dict[str, Any]) -> None:
    (out / f"{name}_row.json").write_bytes(orjson.dumps(_noted(out, name) | values))


# --------------------------------------------------------------------------------------------------------- Words


def parts(recipe: Recipe) -> str:
    """The detector's parts by the names of their menus, those that are not the default ones, and its data's regions."""
    parts, plain = recipe.detector, type(recipe.detector)(backbone=recipe.detector.backbone)
    mask = parts.mask or plain.mask
    choices = [
        (parts.backbone, None),
        (parts.neck, plain.neck),
        (parts.anchors, plain.anchors),
        (parts.rpn.matching, plain.rpn.matching),
        (parts.box.sampling, plain.box.sampling),
        (parts.box.head, plain.box.head),
        (parts.box.classification, plain.box.classification),
        (mask.head, plain.mask.head),
        (mask.loss, plain.mask.loss),
    ]
    words = [choice.name for choice, default in choices if default is None or choice.name != default.name]
    pools = {"boxes": parts.box.pooling, "masks": mask.pooling}
    words += [f"{pool.name} pooling of {what}" for what, pool in pools.items() if pool.name != plain.box.pooling.name]
    words[0] += f" with {parts.backbone.options['stem']}" if "stem" in parts.backbone.options else ""
    extras = {
        "deformable pyramid": parts.neck.options.get("deformable", False),
        "context": parts.box.context is not None,
        "cascade": parts.box.cascade is not None,
        "mask cascade": mask.cascade is not None,
        "area ratio": mask.area_ratio is not None,
        "rescore": mask.rescore is not None,
        "stuff": parts.stuff is not None,
        "masks in training alone": mask.only_in_training,
        "VTR": recipe.data is not None and recipe.data.regions.valid_training_region is not None,
    }
    return ", ".join([*words, *(word for word, there in extras.items() if there)])


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown, AP in percent."""
    lines = [
        "| recipe | parts | training, min | views | s per image | box AP | mask AP |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        figures = f"{row.minutes:.1f} | {row.views} | {row.seconds_per_image:.2f}"
        lines.append(f"| `{row.recipe}` | {row.parts} | {figures} | {_percent(row.box)} | {_percent(row.mask)} |")
    return "\n".join(lines)


def _percent(score: Sequence[float] | None) -> str:
    if score is None:
        return "none"
    ap, low, high = (100 * value for value in score)
    return f"{ap:.1f} [{low:.1f}, {high:.1f}]"


def _machine(together: int) -> str:
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return f"{model[1] if model else platform.processor()}; {together} at a time, each training on one core."


if __name__ == "__main__":
    main()
