"""The file that lists what each view found: the ensemble's own fusion, as a person would write it."""

from pathlib import Path

import pytest

from tis_ray.config import Ensemble, parse
from tis_ray.instances import Categories
from tis_ray.results import open_files
from tis_ray.submission import view_files

CATEGORIES = Categories((1,), ("car",))
MEMBERS = {"a": {"checkpoint": "a", "scales": [400, 800], "flip": True}, "b": {"checkpoint": "b", "scales": [800]}}
SECTIONS = {
    "defaults": {},
    "rules": {"rules": ["soft_nms"], "ranges": {"a@400": [96, None]}, "members": {"b": {"weight": 2}}},
    "a preset": "lvis",
    "a default over a preset": {"preset": "tis", "masks": "best", "top_k": 100},
}


def listed(folder: Path, **content: object) -> str:
    ensemble = parse(Ensemble, {"members": MEMBERS, **content}, source="ensemble.yaml")
    with view_files.opened(folder, ensemble, categories=CATEGORIES, written=CATEGORIES):
        pass
    return (folder / view_files.INDEX).read_text()


@pytest.mark.parametrize("section", SECTIONS.values(), ids=SECTIONS)
def test_it_says_of_the_fusion_what_the_ensemble_says(tmp_path: Path, section: object) -> None:
    text = listed(tmp_path, fusion=section)
    files = open_files([tmp_path / view_files.INDEX])
    expected = Ensemble.model_validate({"members": MEMBERS, "fusion": section})
    assert sorted(files.views.values()) == sorted(expected.views)
    assert files.fusion == expected.fusion
    assert ("rare_boost: null" in text) == (section == SECTIONS["a default over a preset"])
    assert all(entry.file.exists() for entry in files.results.values())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"fusion": {"ranges": "auto"}}, "ranges by training sizes"),
        (
            {"members": {"a": {**MEMBERS["a"], "crops": {"strip": {"box": [0, 9, 90, 60], "scales": [400]}}}}},
            "views of parts of an image",
        ),
    ],
    ids=["automatic ranges", "parts"],
)
def test_a_fusion_that_files_cannot_say_is_left_out_and_that_is_told(
    tmp_path: Path, content: dict, reason: str
) -> None:
    text = listed(tmp_path, **content)
    assert text.startswith(f"# The ensemble's fusion section is left out: it has {reason}, ")
    assert "\nfusion:" not in text
    assert open_files([tmp_path / view_files.INDEX]).results
