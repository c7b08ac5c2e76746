"""What the second pass costs: masks of given boxes, from remembered features, beside a whole forward.

    python -m tests.benchmarks.two_pass [--recipe tis_r50] [--size 800x1333] [--boxes 30 100] [--rounds 5]

One view of one random picture; the recipe's own detector without trained weights, asked for as many detections as there
are boxes. A *forward* is what an ensemble of one pass asks for: boxes and their masks. On a CPU on one thread in
float32, on a GPU under bfloat16 autocast.
"""

import argparse
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests.benchmarks.timing import Timing, several
from tests.tiny import classes
from tis_ray.config import load_recipe
from tis_ray.inference.feature_memory import FeatureMemory
from tis_ray.inference.predictor import Predictor
from tis_ray.models.assembly import build_detector, without_weights
from tis_ray.views import View

MUST_BE = 1 / 3


def main() -> None:
    """Print a line for each number of boxes: seconds of each question, and the second pass as a share of a forward."""
    options = _options()
    height, width = map(int, options.size.lower().split("x"))
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    view = View("m", min(height, width))
    print(f"{options.recipe}, {height}x{width}, {_device()}; medians (minima) of {options.rounds}, ms")
    print(
        "| boxes | forward | boxes alone | second pass, remembered | second pass, anew | share of a forward | must be |"
    )
    print("|---|---|---|---|---|---|---|")
    for count in options.boxes:
        taken = measure(build(options.recipe, count), image, view, count, options.rounds)
        share = taken["remembered"].median / taken["forward"].median
        cells = [f"{one.median * 1e3:.1f} ({one.minimum * 1e3:.1f})" for one in taken.values()]
        print(f"| {count} | {' | '.join(cells)} | **{share:.2f}** | {MUST_BE:.2f} |")


def measure(predictor: Predictor, image: NDArray[np.uint8], view: View, count: int, rounds: int) -> dict[str, Timing]:
    """How long each question takes, by name."""
    (found,) = predictor.predict(image, [view], remember="picture")
    assert len(found) == count
    boxes, labels = found.boxes, found.labels
    return in_turn(
        {
            "forward": lambda: predictor.predict(image, [view]),
            "boxes": lambda: predictor.predict(image, [view], masks=False),
            "remembered": lambda: predictor.predict_masks(image, boxes, labels, [view], recall="picture"),
            "anew": lambda: predictor.predict_masks(image, boxes, labels, [view]),
        },
        rounds,
    )


def build(recipe: str, count: int) -> Predictor:
    """The recipe's detector, untrained, with so many detections in every picture."""
    section = without_weights(load_recipe(recipe).detector)
    box = section.box.model_copy(update={"score_threshold": 0.0, "nms_iou": 0.99, "max_instances": count})
    torch.manual_seed(0)
    detector = build_detector(section.model_copy(update={"box": box}), classes(80))
    return Predictor(detector, device=_device(), memory=FeatureMemory(max_age_s=math.inf))


def in_turn(questions: dict[str, Callable[[], Any]], rounds: int) -> dict[str, Timing]:
    """How long each takes, after a first call: asked in turn, so that a busy moment of the machine meets all."""
    for ask in questions.values():
        ask()
    seconds: dict[str, list[float]] = {name: [] for name in questions}
    for _ in range(rounds):
        for name, ask in questions.items():
            seconds[name] += several(ask, 1)
    return {name: Timing.of(one) for name, one in seconds.items()}


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("--recipe", default="tis_r50", help="name of a shipped recipe with masks, or a file")
    parser.add_argument("--size", default="800x1333", help="height x width of the picture in px")
    parser.add_argument("--boxes", type=int, nargs="+", default=[30, 100], help="numbers of boxes")
    parser.add_argument("--rounds", type=int, default=5, help="timed calls of each question")
    return parser.parse_args()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
