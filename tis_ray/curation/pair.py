"""What is wrong between two data sets, one to train on and one to validate with."""

from collections.abc import Iterator
from pathlib import Path

from tis_ray.curation.check import Findings
from tis_ray.curation.pictures import copies
from tis_ray.curation.problems import Problem


def compare(train: Findings, val: Findings) -> Iterator[Problem]:
    """Classes that val alone has, and pictures that both have: by path and, where they were looked at, by content."""
    known, unseen = set(train.truth.categories.names), _names(val) - _names(train)
    for name in val.truth.categories.names:
        if name not in known:
            yield Problem("class only in val", name)
    for name in val.truth.categories.names:
        if name in known and name in unseen:
            yield Problem("unseen in train", name)
    of_train, of_val = _sizes(train), _sizes(val)
    for path in of_val:
        if path in of_train:
            yield Problem("picture in both", str(path))
    others = [(path, size) for path, size in of_val.items() if path not in of_train]
    for copy, first in copies([*sorted(of_train.items(), key=lambda of: of[0]), *others]):
        if (copy in of_train) != (first in of_train):
            yield Problem("picture in both", f"{copy} is {first}")


def _names(findings: Findings) -> set[str]:
    """The classes that have objects."""
    names = dict(zip(findings.truth.categories.ids, findings.truth.categories.names, strict=True))
    return {names[id_] for id_ in set(findings.category_ids.tolist())}


def _sizes(findings: Findings) -> dict[Path, int | None]:
    """The pictures and how large their files are, None where that is not known."""
    return {record.path: findings.file_bytes[record.id] for record in findings.truth.images}
