"""What each part of an ensemble is worth, from hand-made views of one image."""

import json
from pathlib import Path

import numpy as np
import pytest

from tis_ray.config import Ensemble, FusionSection
from tis_ray.errors import ConfigError
from tis_ray.formats import coco
from tis_ray.formats.image_list import ListedImage
from tis_ray.formats.training_sizes import TrainingSizes
from tis_ray.instances import Categories, Instances
from tis_ray.submission.members import score_members, view_sets
from tis_ray.submission.pipeline import ImageResult, Segmented

ENSEMBLE = Ensemble.model_validate(
    {
        "members": {
            "a": {"checkpoint": "a", "scales": [64, 96], "flip": False},
            "b": {"checkpoint": "b", "scales": [64]},
        },
        "fusion": {"ranges": {"a@64": [50, 1000]}},  # a's coarse scale may not speak for anything small
    }
)
TRAINED = Categories((1, 2, 3), ("bus", "car", "person"))
CAR = [20, 30, 30, 40]


@pytest.fixture
def dataset(tmp_path: Path) -> coco.CocoDataset:
    """One car, in a table of another order and without `bus`."""
    content = {
        "images": [{"id": 5, "file_name": "5.png", "height": 100, "width": 100}],
        "categories": [{"id": 7, "name": "person"}, {"id": 9, "name": "car"}],
        "annotations": [{"id": 1, "image_id": 5, "category_id": 9, "bbox": [20, 30, 10, 10], "iscrowd": 0}],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    return coco.read(path)


def result_with(*finding: str) -> ImageResult:
    """Each deployment of `finding` sees the car, and every one a bus of which the data set knows nothing."""
    views = {}
    for view in ENSEMBLE.views:
        boxes, labels = [[60, 60, 80, 80]], [0]
        if view.key in finding:
            boxes, labels = [CAR, *boxes], [1, *labels]
        views[view] = Instances.of(boxes, np.full(len(boxes), 0.9), labels)
    listed = ListedImage(5, "5.png", Path("5.png"))
    return ImageResult(listed, (100, 100), Segmented(Instances.empty(), views))


def test_rows_are_each_scale_each_member_and_all() -> None:
    rows = {name: [view.name for view in views] for name, views in view_sets(ENSEMBLE)}
    assert rows == {
        "a at 64 px": ["a@64"],
        "a at 96 px": ["a@96"],
        "a, 2 views": ["a@64", "a@96"],
        "b at 64 px": ["b@64"],
        "b, 2 views": ["b@64", "b@64/flip"],
        "ensemble, 4 views": ["a@64", "a@96", "b@64", "b@64/flip"],
    }


def test_crops_and_grids_have_rows_of_their_own() -> None:
    tiles = {"width": 100, "height": 100, "overlap": 20}
    crops = {"strip": {"box": [0, 0, 50, 20], "scales": [72, 96]}, "grid": {"tiles": tiles, "scales": [64]}}
    content = {"members": {"a": {"checkpoint": "a", "scales": [64], "crops": crops}}}
    assert [name for name, _ in view_sets(Ensemble.model_validate(content))] == [
        "a at 64 px",
        "a at 64 px, grid",
        "a at 72 px, strip",
        "a at 96 px, strip",
        "a, 8 views",
        "ensemble, 8 views",
    ]


def test_each_row_scores_its_own_views_with_classes_joined_by_name(dataset: coco.CocoDataset) -> None:
    """a@64 alone finds the car: its valid range counts beside other scales only."""
    rows = score_members(ENSEMBLE, [result_with("a@64")], dataset, categories=TRAINED)
    assert {name: report["bbox"].AP for name, report in rows} == pytest.approx(
        {"a at 64 px": 1, "a at 96 px": 0, "a, 2 views": 0, "b at 64 px": 0, "b, 2 views": 0, "ensemble, 4 views": 0}
    )
    rows = score_members(ENSEMBLE, [result_with("b@64")], dataset, categories=TRAINED)
    assert {name: report["bbox"].AP for name, report in rows} == pytest.approx(
        {"a at 64 px": 0, "a at 96 px": 0, "a, 2 views": 0, "b at 64 px": 1, "b, 2 views": 1, "ensemble, 4 views": 1}
    )


def test_automatic_ranges_hold_among_views_and_not_for_one_alone(dataset: coco.CocoDataset) -> None:
    ensemble = ENSEMBLE.model_copy(update={"fusion": FusionSection.model_validate({"ranges": "auto"})})
    sizes = {name: TrainingSizes((20.0, 40.0)) for name in ("a", "b")}  # at 64 px nothing below 32 px is heard
    rows = score_members(ensemble, [result_with("a@64")], dataset, categories=TRAINED, sizes=sizes)
    assert [name for name, report in rows if report["bbox"].AP > 0] == ["a at 64 px"]
    with pytest.raises(ConfigError, match=r"training_sizes\.json in b"):
        score_members(ensemble, [result_with("a@64")], dataset, categories=TRAINED, sizes={"a": sizes["a"]})


def test_failed_images_count_as_images_without_findings(dataset: coco.CocoDataset) -> None:
    failed = ImageResult(ListedImage(5, "5.png", Path("5.png")), error="cut short")
    rows = score_members(ENSEMBLE, [failed], dataset, categories=TRAINED)
    assert {report["bbox"].AP for _, report in rows} == {0}


def test_a_view_that_shows_nothing_of_an_image_is_scored_as_finding_nothing(dataset: coco.CocoDataset) -> None:
    result = result_with("a@64", "a@96")
    found = {view: one for view, one in result.found.views.items() if view.member == "a"}
    rows = score_members(
        ENSEMBLE,
        [ImageResult(result.image, result.size_hw, Segmented(Instances.empty(), found))],
        dataset,
        categories=TRAINED,
    )
    assert {name for name, report in rows if report["bbox"].AP > 0} >= {"a at 64 px", "ensemble, 4 views"}


def test_tables_without_a_common_class_are_refused(dataset: coco.CocoDataset) -> None:
    with pytest.raises(ConfigError, match=r"categories: .*tram.*person, car"):
        score_members(ENSEMBLE, [result_with()], dataset, categories=Categories((1,), ("tram",)))
