"""Each mask technique alone beside plain Mask R-CNN, on scenes with thin objects; a table for `docs/techniques.md`.

    make mask-techniques

A detector without masks is trained first. Every technique begins from its weights, so that all know objects equally
well and every mask branch starts from nothing, and is then trained and scored for several seeds. What is scored already
in the folder `--out` is not trained again.
"""

import argparse
import multiprocessing
import platform
import re
import statistics
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import orjson
from rich.progress import track

from tis_ray.config import Recipe, parse

PAGE = Path(__file__).parents[2] / "docs" / "techniques.md"
NUM_IMAGES, VAL_FRACTION = 400, 0.25
SEEDS = (0, 1, 2)
BASE_EPOCHS, EPOCHS = 6, 3
WIDTH = 48
PLAIN = "plain Mask R-CNN"
CASCADE = "box cascade"
_FIGURES = re.compile(r"(<!-- mask figures -->\n).*?(<!-- end of mask figures -->)", re.DOTALL)

CONVS = {"channels": [WIDTH] * 2}
THREE = {"cascade": {"loss_weights": [1, 0.5, 0.25]}}
# What each technique changes of the `mask` section, of `box`, and what else of the detector it adds.
TECHNIQUES: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "multi-scale subnetwork": {"mask": {"pooling": {"subnet": {"channels": WIDTH}}}},
    "the same, corner-aligned": {"mask": {"pooling": {"subnet": {"channels": WIDTH, "align": "tf"}}}},
    "deformable RoI pooling": {"mask": {"pooling": {"deformable": {"hidden": 256}}}},
    "area ratio, beta 0.5": {"mask": {"area_ratio": {"beta": 0.5}}},
    "area ratio, beta 1": {"mask": {"area_ratio": {"beta": 1}}},
    "three more convolutions": {"mask": {"head": {"convs": {"channels": [WIDTH] * 5}}}},
    "boundary supervision": {"mask": {"head": {"boundary": CONVS}}},
    "boundary supervision, light": {"mask": {"head": {"boundary_light": CONVS}}},
    "residual mask cascade": {"mask": {"head": {"residual": CONVS}}},
    "balanced mask loss": {"mask": {"loss": "balanced"}},
    "mask rescore": {"mask": {"rescore": {"channels": WIDTH, "hidden": 256}}},
    "stuff supervision": {"stuff": {"channels": WIDTH}},
    CASCADE: {"box": THREE},
    "Hybrid Task Cascade": {"box": THREE, "mask": {"cascade": {}}},
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the techniques that are asked for, print the table and put it between the marks of the page."""
    parser = argparse.ArgumentParser(description="Train and score every mask technique alone.")
    parser.add_argument("techniques", nargs="*", default=list(TECHNIQUES), help="names in the table; default: all")
    parser.add_argument("--out", type=Path, default=Path("runs/mask_techniques"), help="folder for scenes and runs")
    parser.add_argument("--page", type=Path, default=PAGE, help="page that the table is written into")
    parser.add_argument("--together", type=int, default=2, help="runs side by side, each on one core")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="seeds of each technique")
    asked = parser.parse_args(arguments)
    unknown = sorted(set(asked.techniques) - set(TECHNIQUES))
    if unknown:
        parser.error(f"techniques: expected some of {', '.join(TECHNIQUES)}; got {', '.join(unknown)}")
    found = measure(asked.techniques, asked.seeds, out=asked.out.resolve(), together=asked.together)
    figures = f"{_machine()}\n\n{table(found)}"
    asked.page.write_text(_FIGURES.sub(lambda match: f"{match[1]}\n{figures}\n\n{match[2]}", asked.page.read_text()))
    print(figures)


def measure(
    techniques: Sequence[str], seeds: Sequence[int], *, out: Path, together: int
) -> dict[str, list[dict[str, float]]]:
    """`box_ap` and `mask_ap` in 0..1 of each technique, a dict for each seed."""
    from tis_ray.data.scenes import write_scenes

    out.mkdir(parents=True, exist_ok=True)
    write_scenes(out / "scenes", num_images=NUM_IMAGES, preset="thin", val_fraction=VAL_FRACTION)
    scores(base(out))
    asked = [(name, seed) for seed in seeds for name in techniques]
    with ProcessPoolExecutor(together, mp_context=multiprocessing.get_context("spawn")) as pool:
        done = pool.map(scores, [recipe(name, seed, out) for name, seed in asked])
        rows = list(track(_with_names(asked, done), description="techniques", total=len(asked)))
    return {name: [row for other, row in rows if other == name] for name in techniques}


def _with_names(
    asked: Sequence[tuple[str, int]], done: Iterable[dict[str, float]]
) -> Iterable[tuple[str, dict[str, float]]]:
    for (name, _), row in zip(asked, done, strict=True):
        yield name, row


def scores(made: Recipe) -> dict[str, float]:
    """What the recipe's run has reached, after training it where that is still to be done. On one thread."""
    import torch

    from tis_ray.training.run import run

    noted = made.run_dir / "scores.json"
    if not noted.exists():
        torch.set_num_threads(1)
        run(made)
        noted.write_bytes((made.run_dir / "checkpoint" / "metrics.json").read_bytes())
    found: dict[str, float] = orjson.loads(noted.read_bytes())
    return found


# ------------------------------------------------------------------------------------------------------- Recipes


def base(out: Path) -> Recipe:
    """The detector that all begin from: boxes alone."""
    return parse(Recipe, _content("base", out, epochs=BASE_EPOCHS, detector={"mask": None}), source="base")


def recipe(technique: str, seed: int, out: Path) -> Recipe:
    """The run of one technique with one seed."""
    name = re.sub(r"\W+", "_", technique)
    content = _content(f"{name}_{seed}", out, epochs=EPOCHS, detector=TECHNIQUES[technique])
    content |= {"seed": seed, "start": {"checkpoint": str(base(out).run_dir / "checkpoint")}}
    if "stuff" in TECHNIQUES[technique]:
        content["data"]["train"]["stuff"] = str(out / "scenes" / "stuff")
    return parse(Recipe, content, source=technique)


def _content(name: str, out: Path, *, epochs: int, detector: dict[str, Any]) -> dict[str, Any]:
    few = {"samples_per_image": 128, "pre_nms_top_n_train": 500, "post_nms_top_n_train": 200}
    parts: dict[str, Any] = {
        "backbone": "resnet18",
        "neck": {"fpn": {"channels": WIDTH}},
        "anchors": "pyramid",
        "rpn": {**few, "pre_nms_top_n_test": 300, "post_nms_top_n_test": 200},
        "box": {"head": {"mlp": {"hidden": 256}}, "samples_per_image": 128, "positive_fraction": 0.5},
        "mask": {"head": {"convs": CONVS}},
    }
    parts["box"]["score_threshold"] = 0.02
    for key, value in detector.items():
        parts[key] = {**parts[key], **value} if key in parts and value is not None else value
    scenes = out / "scenes"
    return {
        "name": name,
        "output": str(out),
        "data": {
            "train": {"annotations": str(scenes / "instances_train.json")},
            "val": {"annotations": str(scenes / "instances_val.json")},
            "scales": [240],
            "max_long_edge": 512,
            "batch_size": 2,
        },
        "detector": parts,
        "schedule": {
            "epochs": epochs,
            "lr": 0.03,
            "warmup_iterations": 100,
            "milestones": [epochs * 2 / 3, epochs * 0.9],
            "clip_grad_norm": 10.0,
            "validate_every_epochs": epochs,
        },
    }


# --------------------------------------------------------------------------------------------------------- Words


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """Mean and range over seeds in percent, and how far the mask AP is from the plain one's."""
    lines = ["| technique | box AP | mask AP | mask AP, difference of each seed |", "|---|---|---|---|"]
    for name, rows in found.items():
        box, mask = ([100 * row[kind] for row in rows] for kind in ("box_ap", "mask_ap"))
        beside = CASCADE if name == "Hybrid Task Cascade" and CASCADE in found else PLAIN
        before = [100 * row["mask_ap"] for row in found.get(beside, [])]
        far = ", ".join(f"{a - b:+.1f}" for a, b in zip(mask, before, strict=False)) if name != beside else "-"
        far += " (to the box cascade)" if beside == CASCADE else ""
        lines.append(f"| {name} | {_spread(box)} | {_spread(mask)} | {far} |")
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def _machine() -> str:
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return f"{model[1] if model else platform.processor()}, one core for each run."


if __name__ == "__main__":
    main()
