"""What is wrong between two data sets, one to train on and one to validate with."""

from collections.abc import Iterator
from pathlib import Path

from tis_ray.curation.check import Findings
from tis_ray.curation.pictures import copies
from tis_ray.curation.problems import Problem
from tis_ray.formats.dataset import GroundTruth


def compare(train: Findings, val: Findings, *, pictures: bool = True) -> Iterator[Problem]:
    """Classes that val alone has, and pictures that both have: by path and, with `pictures`, by content."""
    known, unseen = set(train.truth.categories.names), _names(val) - _names(train)
    for name in val.truth.categories.names:
        if name not in known:
            yield Problem("class only in val", name)
    for name in val.truth.categories.names:
        if name in known and name in unseen:
            yield Problem("unseen in train", name)
    of_train = {record.path for record in train.truth.images}
    both = [record.path for record in val.truth.images if record.path in of_train]
    for path in both:
        yield Problem("picture in both", str(path))
    if not pictures:
        return
    shared = set(both)
    others = [path for path in _paths(val.truth) if path not in shared]
    for copy, first in copies((path, _size(path)) for path in [*sorted(of_train), *others]):
        if (copy in of_train) != (first in of_train):
            yield Problem("picture in both", f"{copy} is {first}")


def _names(findings: Findings) -> set[str]:
    """The classes that have objects."""
    names = dict(zip(findings.truth.categories.ids, findings.truth.categories.names, strict=True))
    return {names[id_] for id_ in set(findings.category_ids.tolist())}


def _paths(truth: GroundTruth) -> list[Path]:
    return [record.path for record in truth.images]


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
