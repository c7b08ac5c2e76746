"""A whole ensemble in one process."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import tis_ray
from tests.tiny import TINY_DETECTOR, save_tiny_checkpoint
from tis_ray.errors import CheckpointError, ConfigError, InputError
from tis_ray.formats.categories import join_categories, read_categories
from tis_ray.formats.training_sizes import TRAINING_SIZES
from tis_ray.inference.ensemble import EnsemblePredictor
from tis_ray.inference.feature_memory import FeatureMemory
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


# --------------------------------------------------------------------------------------------------- Two passes

BOXES_ALONE = {**TINY_DETECTOR, "mask": {**TINY_DETECTOR["mask"], "only_in_training": True}}
SYSTEM = {  # the COCO 2019 winner in small
    **{name: {"checkpoint": name, "scales": [64, 80], "flip": False} for name in ("det_a", "det_b", "det_c")},
    **{name: {"checkpoint": name, "scales": [64, 96]} for name in ("seg_a", "seg_b")},
}
ROLES = {"seg_a": {"role": "masks"}, "seg_b": {"role": "masks"}}
BOXES = np.array([[5, 5, 40, 30], [30, 20, 90, 75]], dtype=np.float32)
LABELS = np.array([0, 2], dtype=np.int32)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("system")
    for seed, name in enumerate(SYSTEM):
        detector = BOXES_ALONE if name.startswith("det") else TINY_DETECTOR
        save_tiny_checkpoint(folder / name, seed=seed, detector=detector)
    return folder


def runs_of(ensemble: EnsemblePredictor) -> Counter[str]:
    """How often parts of members run from now on, as `seg_a backbone`."""
    seen: Counter[str] = Counter()
    for name, predictor in ensemble.predictors.items():
        detector = predictor.detector
        for kind, part in {"backbone": detector.backbone, "rpn": detector.rpn, "box": detector.roi_heads}.items():
            part.register_forward_pre_hook(lambda *_, key=f"{name} {kind}": seen.update([key]))
        if detector.roi_heads.mask_branch is not None:
            detector.roi_heads.mask_branch.register_forward_pre_hook(lambda *_, key=f"{name} mask": seen.update([key]))
    return seen


def test_three_detectors_find_what_two_segmenters_draw(system: Path, picture: np.ndarray) -> None:
    """Boxes are those of the detectors by themselves, masks the mean of what the segmenters say of these boxes."""
    fusion = {"preset": "megdet", "members": ROLES, "top_k": 9}
    ensemble = tis_ray.load(write_ensemble(system, members=SYSTEM, fusion=fusion))
    seen = runs_of(ensemble)
    found = ensemble.predict(picture)
    assert seen == {
        **{f"det_{i} {part}": 2 for i in "abc" for part in ("backbone", "rpn", "box")},
        **{f"seg_{i} {part}": 2 for i in "ab" for part in ("backbone", "mask")},
    }
    assert len(found) == 9
    assert {ensemble.views[i].member[:3] for i in found.source} == {"det"}

    detectors = {name: member for name, member in SYSTEM.items() if name.startswith("det")}
    alone = tis_ray.load(write_ensemble(system, members=detectors, fusion={"preset": "megdet", "top_k": 9}))
    boxes = alone.predict(picture)
    assert boxes.masks is None
    np.testing.assert_array_equal(found.boxes, boxes.boxes)
    np.testing.assert_array_equal(found.scores, boxes.scores)

    patches = [
        masks.probabilities.astype(np.float64)
        for name in ("seg_a", "seg_b")
        for masks in ensemble.predictors[name].predict_masks(
            picture, found.boxes, found.labels, [view for view in ensemble.views if view.member == name]
        )
    ]
    assert len(patches) == 8
    assert found.masks.present.all()
    np.testing.assert_array_equal(found.masks.boxes, found.boxes)
    np.testing.assert_allclose(found.masks.probabilities.astype(np.float64), np.mean(patches, axis=0), atol=2e-3)


def test_members_of_both_roles_look_once_and_draw_on_the_fused_boxes(folder: Path, picture: np.ndarray) -> None:
    ensemble = tis_ray.load(write_ensemble(folder, fusion={"preset": "tis", "top_k": 5}))
    seen = runs_of(ensemble)
    found = ensemble.predict(picture)
    assert seen == {
        **{f"one {part}": 2 for part in ("backbone", "rpn", "box", "mask")},
        **{f"two {part}": 1 for part in ("backbone", "rpn", "box", "mask")},
    }
    assert found.masks.present.all()
    for predictor in ensemble.predictors.values():
        assert predictor.memory.nbytes == 0


def test_features_that_do_not_fit_are_computed_twice_for_the_same_answer(folder: Path, picture: np.ndarray) -> None:
    ensemble = tis_ray.load(write_ensemble(folder, fusion="tis"))
    before = ensemble.predict(picture)
    for predictor in ensemble.predictors.values():
        predictor.memory = FeatureMemory(max_bytes=0)
    seen = runs_of(ensemble)
    after = ensemble.predict(picture)
    assert (seen["one backbone"], seen["two backbone"]) == (4, 2)
    np.testing.assert_array_equal(after.masks.probabilities, before.masks.probabilities)
    np.testing.assert_array_equal(after.boxes, before.boxes)


def test_a_failed_picture_leaves_no_features_behind(folder: Path, picture: np.ndarray) -> None:
    ensemble = tis_ray.load(write_ensemble(folder, fusion="tis"))
    ensemble.fuser.merge = None
    with pytest.raises(TypeError):
        ensemble.predict(picture)
    assert all(predictor.memory.nbytes == 0 for predictor in ensemble.predictors.values())


def test_a_picture_without_objects_has_no_masks_to_draw(system: Path, picture: np.ndarray) -> None:
    fusion = {"preset": "megdet", "members": ROLES, "score_threshold": 1.0}
    ensemble = tis_ray.load(write_ensemble(system, members=SYSTEM, fusion=fusion))
    seen = runs_of(ensemble)
    found = ensemble.predict(picture)
    assert len(found) == len(found.masks) == 0
    assert seen["seg_a backbone"] == 0


def test_boxes_that_you_bring_get_the_masks_of_all_who_draw(system: Path, picture: np.ndarray) -> None:
    fusion = {"preset": "megdet", "members": ROLES}
    ensemble = tis_ray.load(write_ensemble(system, members=SYSTEM, fusion=fusion))
    seen = runs_of(ensemble)
    masks = ensemble.predict_masks(picture, BOXES, LABELS)
    assert {key.split()[0] for key in seen} == {"seg_a", "seg_b"}
    assert masks.present.tolist() == [True, True]
    np.testing.assert_array_equal(masks.boxes, BOXES)
    patches = [
        one.probabilities.astype(np.float64)
        for name in ("seg_a", "seg_b")
        for one in ensemble.predictors[name].predict_masks(
            picture, BOXES, LABELS, [view for view in ensemble.views if view.member == name]
        )
    ]
    np.testing.assert_allclose(masks.probabilities.astype(np.float64), np.mean(patches, axis=0), atol=2e-3)
    nothing = ensemble.predict_masks(picture, BOXES[:0], LABELS[:0])
    assert len(nothing) == 0


@pytest.mark.parametrize("policy", ["best", "average", "scale_ratio", "vote"])
def test_any_ensemble_with_masks_draws_on_boxes_that_you_bring(
    folder: Path, picture: np.ndarray, policy: str, tmp_path: Path
) -> None:
    Image.fromarray(picture).save(tmp_path / "picture.png")
    ensemble = tis_ray.load(write_ensemble(folder, fusion={"masks": policy}))
    masks = ensemble.predict_masks(tmp_path / "picture.png", BOXES, LABELS)
    assert masks.present.tolist() == [True, True]
    assert len(masks.to_rle(80, 112)) == 2


def test_boxes_of_unknown_classes_or_without_anybody_to_draw_are_refused(
    system: Path, folder: Path, picture: np.ndarray
) -> None:
    ensemble = tis_ray.load(write_ensemble(folder))
    with pytest.raises(InputError, match=r"labels: expected 0\.\.2; got 3 at position 1"):
        ensemble.predict_masks(picture, BOXES, np.array([0, 3]))
    with pytest.raises(InputError, match=r"boxes: expected a float32 array \(N, 4\); got list"):
        ensemble.predict_masks(picture, BOXES.tolist(), LABELS)
    alone = tis_ray.load(write_ensemble(system, members={"det_a": SYSTEM["det_a"]}))
    with pytest.raises(InputError, match=r"members: expected one that predicts masks and whose role is not boxes"):
        alone.predict_masks(picture, BOXES, LABELS)


def test_a_segmenter_without_masks_is_refused_by_its_role(system: Path) -> None:
    fusion = {"members": {**ROLES, "det_b": {"role": "masks"}}}
    with pytest.raises(ConfigError, match=r"^fusion\.members\.det_b\.role: expected a member that predicts masks"):
        tis_ray.load(write_ensemble(system, members=SYSTEM, fusion=fusion))


def test_a_detector_whose_masks_are_for_training_may_stand_beside_segmenters_and_not_beside_members_of_both_roles(
    system: Path, picture: np.ndarray
) -> None:
    members = {name: SYSTEM[name] for name in ("det_a", "seg_a")}
    with pytest.raises(ConfigError, match=r"members\.det_a: expected a member that predicts masks, as members\.seg_a"):
        tis_ray.load(write_ensemble(system, members=members, fusion={}))
    ensemble = tis_ray.load(write_ensemble(system, members=members, fusion={"members": {"seg_a": {"role": "masks"}}}))
    assert ensemble.predict(picture).masks.present.all()
