"""Two sets of results of one data set side by side: `b` against `a`."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tis_ray.evaluation.comparison import held
from tis_ray.evaluation.overlaps import Kind, overlaps
from tis_ray.evaluation.paired import Difference, Paired, paired
from tis_ray.explaining.explanation import Explanation, explain
from tis_ray.explaining.predictions import Predictions
from tis_ray.explaining.words import interval, percent, points
from tis_ray.formats.dataset import GroundTruth

_FEW_IMAGES = 20


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """What two sets of results have and where they differ.

    names: of `a` and `b`, different ones
    by_kind: the differences of boxes and, where both have some, of masks
    a, b:  what explains each, of masks where both have some
    """

    names: tuple[str, str]
    by_kind: dict[Kind, Paired]
    a: Explanation
    b: Explanation

    @property
    def main(self) -> Paired:
        """The differences of the kind that is explained."""
        return self.by_kind[self.a.kind]

    def changes(self) -> NDArray[np.float64]:
        """How much better the quality of each image is in `b`, (I,) from -1 to 1; that of an image of nothing is 1."""
        first, second = (np.nan_to_num(one.images.quality, nan=1.0) for one in (self.a, self.b))
        return np.asarray(second - first)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        images = zip(self.a.images.image_ids.tolist(), self.changes().tolist(), strict=True)
        return {
            "a": self.names[0],
            "b": self.names[1],
            "verdict": verdict(self),
            **{kind: one.to_json() for kind, one in self.by_kind.items()},
            "error_curves": {"a": self.a.curves.numbers(), "b": self.b.curves.numbers()}
            if self.a.num_objects().any()
            else None,
            "images": [{"image_id": id_, "quality_change": change} for id_, change in images],
        }


def compare(
    dataset: GroundTruth, a: Predictions, b: Predictions, *, num_samples: int = 1000, seed: int = 0
) -> Compared:
    """Judge both by the same images, objects and draws."""
    dataset = held(dataset)
    masked = all(any("segmentation" in one for one in each.results) for each in (a, b))
    kinds: list[Kind] = ["bbox", "segm"] if masked else ["bbox"]
    first, second = (explain(dataset, each.results, kind=kinds[-1]) for each in (a, b))
    by_kind: dict[Kind, Paired] = {}
    for kind in kinds:
        pairs = (
            (first.overlaps, second.overlaps)
            if kind == kinds[-1]
            else (overlaps(dataset, a.results, kind=kind), overlaps(dataset, b.results, kind=kind))
        )
        by_kind[kind] = paired(*pairs, dataset.categories, num_samples=num_samples, seed=seed)
    return Compared(_names(a, b), by_kind, first, second)


def verdict(compared: Compared) -> str:
    """Which is better, by how much, and whether that is beyond chance, in words."""
    one, (a, b) = compared.main.scores["AP"], compared.names
    word = f"{compared.a.word.capitalize()} AP"
    if np.isnan(one.value):
        return "There is no object, so there is nothing to compare."
    scores = f"{word} {percent(one.a)} of {a} and {percent(one.b)} of {b}"
    if one.interval is None:
        return f"{scores}: {points(one.value)} points. With so few images, or no draws of them, that may be chance."
    within = f"{points(one.value)} points, 95% interval {interval(one.interval)}"
    told = f"{scores}: {within}. {_chance(one, a, b)}"
    if compared.main.num_images < _FEW_IMAGES:
        told += f" {compared.main.num_images} images are few: such an interval is narrower than it should be."
    return told


def _chance(one: Difference, a: str, b: str) -> str:
    if one.interval == (0.0, 0.0):
        return "They do not differ."
    better, share = (b, one.better) if one.value > 0 else (a, 1 - one.better)
    if one.beyond_chance:
        often = "all" if share == 1 else f"{share:.1%}"
        return f"{better} is better beyond chance: in {often} of the draws of the images."
    return f"That is within chance: {better} is better in {share:.0%} of the draws of the images."


def _names(a: Predictions, b: Predictions) -> tuple[str, str]:
    if a.name != b.name:
        return a.name, b.name
    longer = [f"{one.path.resolve().parent.name}/{one.name}" for one in (a, b)]
    return (longer[0], longer[1]) if longer[0] != longer[1] else (f"{a.name} (first)", f"{b.name} (second)")
