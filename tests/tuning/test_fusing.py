"""Fusing a run's kept views anew: as they were to the byte, and otherwise where the fusion is another."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.tuning.kept_runs import CATEGORIES, SIZE_HW, ensemble_of, write_run, write_truth
from tis_ray.cli import app
from tis_ray.errors import ConfigError
from tis_ray.fusion.fuse import Fuser
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks
from tis_ray.runs.folder import RunFolder
from tis_ray.runs.records import ImageOutcome, ImageViews
from tis_ray.submission.writing import write_results
from tis_ray.tuning.fusing import changed, fused, remarks

TWO = {"a": {"scales": [100, 200]}, "b": {"scales": [100], "flip": False}}
RULES = {"rules": [{"nms": {"iou_threshold": 0.6}}], "masks": {"average": {"iou_threshold": 0.5}}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("run")
    truth = write_truth(folder / "gt.json", num_images=7)
    return write_run(folder / "results.run", ensemble_of(TWO, RULES), truth)


def lines_of(run: RunFolder, out: Path, *arguments: str) -> bytes:
    result = CliRunner().invoke(app, ["fuse", str(run.path), "--out", str(out), *arguments])
    assert result.exit_code == 0, result.output
    return out.read_bytes()


def test_what_is_fused_as_it_was_is_what_the_run_wrote_to_the_byte(run: RunFolder, tmp_path: Path) -> None:
    write_results(run.outcomes(), tmp_path / "run.json", categories=run.categories)
    assert len(json.loads((tmp_path / "run.json").read_text())) > 20
    assert lines_of(run, tmp_path / "fused.json") == (tmp_path / "run.json").read_bytes()
    assert lines_of(run, tmp_path / "other.json", "--set", "fusion.top_k=3") != (tmp_path / "run.json").read_bytes()


def test_a_preset_takes_the_place_of_the_section_but_for_members(run: RunFolder) -> None:
    weighted = changed(run, overrides=["fusion.members.b.weight=2"])
    assert weighted.fusion.rules == run.ensemble.fusion.rules
    assert weighted.fusion.members["b"].weight == 2
    preset = changed(run, fusion="megdet", overrides=["fusion.top_k=50"])
    assert [rule.name for rule in preset.fusion.rules] == ["soft_nms"]
    assert preset.fusion.top_k == 50


def test_the_section_of_another_file_is_taken(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("members: {a: {checkpoint: x, scales: [1]}}\nfusion: {top_k: 9}\n")
    assert changed(run, fusion=str(tmp_path / "other.yaml")).fusion.top_k == 9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"overrides": ["members.a.flip=false"]}, "--set: expected fusion.KEY=VALUE"),
        ({"overrides": ["fusion.preset=tis"]}, "--set: expected --fusion tis"),
        ({"fusion": "best"}, "--fusion: expected one of tis, lvis, megdet, or a YAML file; got 'best'"),
        ({"overrides": ["fusion.members.b.role=masks"]}, "fusion.members.b.role: expected both"),
        ({"overrides": ["fusion.ranges={'@300': [0, 5]}"]}, "fusion.ranges.@300: expected one of"),
    ],
)
def test_what_cannot_be_fused_is_refused(run: RunFolder, arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        changed(run, **arguments)


def test_failed_images_stay_failed_and_missing_views_missing(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "gt.json", num_images=3)
    run = write_run(tmp_path / "run", ensemble_of(TWO, RULES), truth)
    first, second, third = run.views()
    fewer = {view: one for view, one in second.found.items() if view.member == "a"}
    outcomes = list(run.outcomes())
    failed = ImageOutcome(1, "1.png", (0, 0), "failed", Instances.empty(), error="gone")
    without_b = Fuser(run.ensemble.fusion, CATEGORIES).fuse(fewer, image_hw=SIZE_HW, sources=run.ensemble.views)
    degraded = replace(outcomes[1], status="degraded", instances=without_b)
    run.write(0, [failed, degraded, outcomes[2]], [ImageViews(1, (0, 0)), replace(second, found=fewer), third])
    one, two, _ = fused(run, run.ensemble)
    assert (one.status, one.error, len(one.instances)) == ("failed", "gone", 0)
    np.testing.assert_array_equal(two.instances.scores, without_b.scores)
    np.testing.assert_array_equal(two.instances.source, without_b.source)
    assert len(first.found) == 5


def test_masks_of_the_fused_boxes_go_to_these_boxes_as_in_the_run(tmp_path: Path) -> None:
    ensemble = ensemble_of(TWO, {**RULES, "members": {"b": {"role": "masks"}}, "masks": {"average": {"k": 1}}})
    truth = write_truth(tmp_path / "gt.json", num_images=2)
    run = write_run(tmp_path / "run", ensemble, truth)
    fuser, segmenter = Fuser(ensemble.fusion, CATEGORIES), ensemble.views[-1]
    assert segmenter.member == "b"
    outcomes, kept = [], []
    for image in run.views():
        boxed = {view: found for view, found in image.found.items() if view != segmenter}
        merged = fuser.merge(boxed, image_hw=SIZE_HW, sources=ensemble.views)
        count = len(merged.instances)
        drawn = np.random.default_rng(image.image_id).random((count, 7, 7)).astype(np.float16)
        masks = BoxMasks(merged.instances.boxes, drawn, np.arange(count) % 4 != 1)
        found = fuser.finish(merged, {segmenter: masks})
        outcomes.append(ImageOutcome(image.image_id, f"{image.image_id}.png", SIZE_HW, "ok", found))
        own = replace(merged.instances, masks=masks)[masks.present]
        kept.append(ImageViews(image.image_id, SIZE_HW, {**boxed, segmenter: own}))
    run.write(0, outcomes, kept)
    write_results(run.outcomes(), tmp_path / "run.json", categories=CATEGORIES)
    write_results(fused(run, run.ensemble), tmp_path / "fused.json", categories=CATEGORIES)
    assert (tmp_path / "fused.json").read_bytes() == (tmp_path / "run.json").read_bytes()
    fewer = list(fused(run, changed(run, overrides=["fusion.top_k=2"])))
    assert [len(one.instances) for one in fewer] == [2, 2]


def test_it_is_told_where_masks_of_a_second_pass_are_missing(run: RunFolder) -> None:
    assert remarks(run.ensemble) == []
    assert "second_pass" in remarks(changed(run, fusion="tis"))[0]


def test_a_run_without_kept_views_is_refused(run: RunFolder, tmp_path: Path) -> None:
    bare = replace(run, keeps_views=False)
    with pytest.raises(ConfigError, match="--keep-views"):
        list(fused(bare, run.ensemble))
