"""A whole ensemble in one process."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import tis_ray
from tests.tiny import TINY_DETECTOR, save_tiny_checkpoint
from tis_ray.errors import CheckpointError, ConfigError
from tis_ray.formats.categories import join_categories, read_categories
from tis_ray.formats.training_sizes import TRAINING_SIZES
from tis_ray.instances import Categories


def write_ensemble(folder: Path, **changes: object) -> Path:
    content = {
        "members": {
            "one": {"checkpoint": "one", "scales": [64, 96]},
            "two": {"checkpoint": "two", "scales": [64], "flip": False},
        },
        "fusion": {"rules": [{"nms": {"iou_threshold": 0.5}}], "top_k": 7},
        **changes,
    }
    path = folder / "ensemble.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ensemble")
    for seed, name in enumerate(["one", "two"]):
        save_tiny_checkpoint(folder / name, seed=seed)
    return folder


def test_fuses_all_views_of_all_members(folder: Path, picture: np.ndarray) -> None:
    ensemble = tis_ray.load(write_ensemble(folder))
    assert [view.name for view in ensemble.views] == ["one@64", "one@64/flip", "one@96", "one@96/flip", "two@64"]
    found = ensemble.predict(picture)
    assert 0 < len(found) <= 7
    assert found.masks is not None
    assert set(found.source) <= set(range(5))
    found.check_values(num_classes=3)
    assert len(found.masks.to_rle(80, 112)) == len(found)


def test_reads_a_file_as_the_array(folder: Path, picture: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(picture).save(tmp_path / "picture.png")
    ensemble = tis_ray.load(write_ensemble(folder))
    from_file, from_array = ensemble.predict(tmp_path / "picture.png"), ensemble.predict(picture)
    np.testing.assert_array_equal(from_file.boxes, from_array.boxes)


def test_same_answer_twice(folder: Path, picture: np.ndarray) -> None:
    ensemble = tis_ray.load(write_ensemble(folder))
    np.testing.assert_array_equal(ensemble.predict(picture).scores, ensemble.predict(picture).scores)


def test_members_with_other_classes_are_refused_naming_both(folder: Path) -> None:
    save_tiny_checkpoint(folder / "three", categories=Categories((1, 2, 3), ("car", "person", "tram")))
    members = {name: {"checkpoint": name, "scales": [64]} for name in ("one", "three")}
    with pytest.raises(ConfigError, match=r"members\.three: .*car, person, bus.*got car, person, tram"):
        tis_ray.load(write_ensemble(folder, members=members))


def test_a_member_without_masks_beside_one_with_masks_is_refused(folder: Path) -> None:
    save_tiny_checkpoint(folder / "boxes", detector={**TINY_DETECTOR, "mask": None})
    members = {name: {"checkpoint": name, "scales": [64]} for name in ("one", "boxes")}
    with pytest.raises(ConfigError, match=r"members\.boxes: expected a member that predicts masks, as members\.one"):
        tis_ray.load(write_ensemble(folder, members=members))


def test_members_without_masks_alone_are_fine(folder: Path, picture: np.ndarray) -> None:
    save_tiny_checkpoint(folder / "boxes", detector={**TINY_DETECTOR, "mask": None})
    ensemble = tis_ray.load(write_ensemble(folder, members={"boxes": {"checkpoint": "boxes", "scales": [64]}}))
    assert ensemble.predict(picture).masks is None


def test_the_fusion_knows_the_class_table(folder: Path, picture: np.ndarray) -> None:
    fusion = {"rules": [], "top_k": 1000}
    plain = tis_ray.load(write_ensemble(folder, fusion=fusion)).predict(picture)
    boost = {"rare_boost": {"delta": 0.5, "classes": ["person"]}}
    boosted = tis_ray.load(write_ensemble(folder, fusion=fusion | boost)).predict(picture)
    assert (plain.labels == 1).any()
    for label, factor in enumerate([1, 1.5, 1]):  # car, person, bus
        expected = np.sort(np.minimum(plain.scores[plain.labels == label] * factor, 1))
        np.testing.assert_allclose(np.sort(boosted.scores[boosted.labels == label]), expected, rtol=1e-6)
    misspelt = {"rare_boost": {"classes": ["persom"]}}
    with pytest.raises(ConfigError, match="got 'persom'; did you mean 'person'"):
        tis_ray.load(write_ensemble(folder, fusion=misspelt))


def test_automatic_ranges_go_by_the_checkpoints(folder: Path, picture: np.ndarray, tmp_path: Path) -> None:
    members = {name: {"checkpoint": str(tmp_path / name), "scales": [64, 96], "flip": False} for name in ("one", "two")}
    for name in members:
        shutil.copytree(folder / name, tmp_path / name)
        (tmp_path / name / TRAINING_SIZES).write_text('{"quantiles": [1, 2]}')
    every = {"rules": [], "top_k": 1000}
    written = every | {"ranges": {"@64": [1.5, None], "@96": [0, 1.5]}}  # no gap lies between 1.2 and 2.0
    heard = [
        set(tis_ray.load(write_ensemble(tmp_path, members=members, fusion=fusion)).predict(picture).source.tolist())
        for fusion in (every, written, every | {"ranges": "auto"})
    ]
    assert heard == [{0, 1, 2, 3}, {0, 2}, {0, 2}]
    (tmp_path / "two" / TRAINING_SIZES).unlink()
    path = write_ensemble(tmp_path, members=members, fusion=every | {"ranges": "auto"})
    with pytest.raises(ConfigError, match=rf"expected training_sizes\.json in {tmp_path}/two, .* of members\.two"):
        tis_ray.load(path)


def test_training_counts_are_those_of_the_first_member_that_has_some(folder: Path, tmp_path: Path) -> None:
    shuffled = Categories((1, 2, 3), ("bus", "car", "person"), counts=(7, 8, 9))
    (tmp_path / "categories.json").write_text(json.dumps(shuffled.to_json()))
    counted = ("counted", read_categories(tmp_path))
    bare = ("bare", read_categories(folder / "one"))
    assert join_categories([bare, bare]).counts == ()
    assert join_categories([counted, bare]) == shuffled
    joined = join_categories([bare, counted])
    assert (joined.names, joined.counts) == (("car", "person", "bus"), (8, 9, 7))


def test_missing_checkpoint_is_named(folder: Path) -> None:
    members = {"one": {"checkpoint": "nowhere", "scales": [64]}}
    with pytest.raises(CheckpointError, match=r"nowhere: expected a folder"):
        tis_ray.load(write_ensemble(folder, members=members))
