"""What makes two batch runs the same run: everything that decides their results, and nothing else."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import save_tiny_checkpoint
from tis_ray.config import Ensemble
from tis_ray.formats.image_list import ListedImage
from tis_ray.submission.identity import describe

IMAGES = [ListedImage(1, "a.png", Path("a.png")), ListedImage(2, "b.png", Path("b.png"), (60, 80))]


def run(
    folder: Path, *, member: dict[str, Any] | None = None, images: list[ListedImage] = IMAGES, **sections: Any
) -> Any:
    members = {"one": {"checkpoint": str(folder), "scales": [64, 96], **(member or {})}}
    return describe(Ensemble.model_validate({"members": members, "auth": "none", **sections}), images)


@pytest.fixture
def moved(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "moved"))


def test_where_members_lie_and_run_makes_no_other_run(tiny_checkpoint: Path, moved: Path) -> None:
    before = run(tiny_checkpoint)
    assert run(moved) == before
    assert run(moved, member={"groups": {"all": [64, 96]}}, limits={"deadline_s": 5}, quorum={"views": 0.5}) == before
    elsewhere = [ListedImage(one.id, one.file_name, Path("/mnt") / one.path, one.size_hw) for one in IMAGES]
    assert run(moved, images=elsewhere) == before


OTHERS: dict[str, dict[str, Any]] = {
    "a scale": {"member": {"scales": [64]}},
    "a flip": {"member": {"flip": False}},
    "the fusion": {"fusion": {"top_k": 3}},
    "an image less": {"images": IMAGES[:1]},
    "another id": {"images": [IMAGES[0], ListedImage(3, "b.png", Path("b.png"), (60, 80))]},
    "another name": {"images": [IMAGES[0], ListedImage(2, "c.png", Path("b.png"), (60, 80))]},
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS.keys())
def test_what_decides_the_results_makes_another_run(tiny_checkpoint: Path, change: dict[str, Any]) -> None:
    assert run(tiny_checkpoint, **change) != run(tiny_checkpoint)


def test_other_weights_under_the_same_path_make_another_run(moved: Path) -> None:
    before = run(moved)
    save_tiny_checkpoint(moved, seed=1)
    after = run(moved)
    assert after != before
    assert after["members"]["one"].pop("model_version") != before["members"]["one"].pop("model_version")
    assert after == before
