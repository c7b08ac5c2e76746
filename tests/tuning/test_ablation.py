"""Ablations: each row is the score of what remains, fused by hand."""

from pathlib import Path

import pytest

from tests.tuning.kept_runs import CATEGORIES, SIZE_HW, Skill, ensemble_of, write_run, write_truth
from tis_ray.evaluation.coco import evaluate
from tis_ray.formats.coco_results import to_results
from tis_ray.fusion.fuse import Fuser
from tis_ray.tuning.ablation import ablate, variants
from tis_ray.tuning.scoring import Bench

MEMBERS = {
    "a": {"scales": [100, 200], "crops": {"middle": {"box": [40, 30, 120, 90], "scales": [200]}}},
    "b": {"scales": [100], "flip": False},
}
FUSION = {
    "rules": [{"nms": {"iou_threshold": 0.6}}, {"vote": {"iou_threshold": 0.8}}],
    "rare_boost": {"max_count": 12},
    "ranges": {"@200": [0, 60]},
    "members": {"b": {"weight": 0.5}},
}


def test_every_part_is_removed_in_turn() -> None:
    found = {variant.name: len(variant.views) for variant in variants(ensemble_of(MEMBERS, FUSION))}
    assert found == {
        "all": 7, "without member a": 1, "without member b": 6, "without scale 100": 4, "without scale 200": 5,
        "without flip": 4, "without crop middle": 5, "without rule 1, nms": 7, "without rule 2, vote": 7,
        "without boost": 7, "without ranges": 7, "without weights": 7,
    }  # fmt: skip


def test_what_is_left_must_have_boxes() -> None:
    ensemble = ensemble_of(MEMBERS, {**FUSION, "members": {"b": {"role": "masks"}}})
    assert "without member a" not in [variant.name for variant in variants(ensemble)]


def test_rows_are_what_scoring_by_hand_gives(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "gt.json", num_images=6)
    ensemble = ensemble_of(MEMBERS, FUSION)
    run = write_run(tmp_path / "run", ensemble, truth, lambda view: Skill(jitter_px=4.0 if view.flip else 1.0))
    ablation = ablate(Bench.of(run, truth), ensemble)
    by_hand = []
    for variant in variants(ensemble):
        fuser = Fuser(variant.ensemble.fusion, CATEGORIES)
        results = []
        for image in run.views():
            found = {view: image.found[view] for view in variant.views}
            fused = fuser.fuse(found, image_hw=SIZE_HW, sources=variant.views)
            results += to_results(fused, image_id=image.image_id, categories=CATEGORIES, size_hw=SIZE_HW)
        by_hand.append(evaluate(truth, results).to_json())
    assert [report.to_json() for _, report in ablation.rows] == by_hand
    rows = ablation.to_json()["rows"]
    assert rows[0]["AP_change"] == {"bbox": 0, "segm": 0}
    flip = next(row for row in rows if row["kind"] == "flip")
    assert flip["AP_change"]["bbox"] == pytest.approx(flip["bbox"]["AP"] - rows[0]["bbox"]["AP"])
    assert flip["AP_change"]["bbox"] > 0
