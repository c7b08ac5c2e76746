"""The file that lists what each view found: the ensemble's own fusion, as a person would write it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tis_ray.config import Ensemble, parse
from tis_ray.formats.coco_results import to_results
from tis_ray.fusion.fuse import Fuser
from tis_ray.instances import Categories, Instances
from tis_ray.masks import BoxMasks
from tis_ray.results import fuse_files, open_files
from tis_ray.runs.records import ImageViews
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


def test_files_of_two_passes_fuse_to_the_boxes_and_masks_of_the_ensemble(tmp_path: Path) -> None:
    """What a segmenter drew on the fused boxes is in its file, and `tis-ray fuse` gives it to these boxes."""
    content = {"preset": "megdet", "members": {"b": {"role": "masks"}}, "score_threshold": 0.2}
    ensemble = parse(Ensemble, {"members": MEMBERS, "fusion": content}, source="ensemble.yaml")
    fuser = Fuser(ensemble.fusion)
    boxes = np.array([[10, 10, 60, 50], [12, 12, 60, 52], [70.5, 20.25, 95, 60]], np.float32)
    found = {view: Instances.of(boxes, [0.9, 0.8, 0.5], [0, 0, 0]) for view in ensemble.views if view.member == "a"}
    merged = fuser.merge(found, image_hw=(80, 100), sources=ensemble.views)
    (drawing,) = {view for view in ensemble.views if view.member == "b" and not view.flip}
    disc = np.hypot(*np.mgrid[-13.5:14:1, -13.5:14:1]) < 12
    patches = np.repeat(disc[None].astype(np.float16), len(merged.instances), axis=0)
    masks = BoxMasks(merged.instances.boxes, patches)
    answer = fuser.finish(merged, {drawing: masks})
    assert answer.masks is not None
    drawn = replace(merged.instances, masks=masks)[masks.present]
    with view_files.opened(tmp_path, ensemble, categories=CATEGORIES, written=CATEGORIES) as write:
        write(ImageViews(1, (80, 100), {**found, drawing: drawn}))
    data = {"images": [{"id": 1, "width": 100, "height": 80, "file_name": "1.png"}], "annotations": []}
    (tmp_path / "data.json").write_text(json.dumps(data | {"categories": CATEGORIES.to_json()}))
    fuse_files(open_files([tmp_path / view_files.INDEX]), tmp_path / "data.json", tmp_path / "fused.json")
    fused = json.loads((tmp_path / "fused.json").read_text())
    expected = to_results(answer, image_id=1, categories=CATEGORIES, size_hw=(80, 100))
    assert len(fused) == len(expected) == 2
    for one, other in zip(fused, expected, strict=True):
        np.testing.assert_allclose(one["bbox"], other["bbox"], atol=2e-3)
        np.testing.assert_allclose(one["score"], other["score"], atol=1e-6)
        assert one["segmentation"] == other["segmentation"]
