"""Kept views in memory: what was written, of the images that the ground truth has."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.tuning.kept_runs import CATEGORIES, SIZE_HW, ensemble_of, write_run, write_truth
from tis_ray.errors import DataError
from tis_ray.formats.coco import CocoDataset
from tis_ray.formats.dataset import ImageRecord
from tis_ray.tuning.kept import load
from tis_ray.tuning.scoring import Bench

ENSEMBLE = ensemble_of({"a": {"scales": [100]}}, {})


def test_views_come_back_to_the_bit_with_or_without_masks(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "gt.json", num_images=4)
    run = write_run(tmp_path / "run", ENSEMBLE, truth)
    for image, written in zip(load(run, truth, masks=True), run.views(), strict=True):
        assert (image.image_id, image.size_hw) == (written.image_id, SIZE_HW)
        for view, found in written.found.items():
            np.testing.assert_array_equal(image.found[view].boxes, found.boxes)
            np.testing.assert_array_equal(image.found[view].masks.probabilities, found.masks.probabilities)
            np.testing.assert_array_equal(image.found[view].masks.boxes, found.masks.boxes)
    assert all(one.masks is None for image in load(run, truth, masks=False) for one in image.found.values())
    assert not list(run.path.glob("tmp*"))


def test_images_are_joined_by_name_where_ids_differ_and_others_left_out(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "gt.json", num_images=4)
    run = write_run(tmp_path / "run", ENSEMBLE, truth)
    records = [
        ImageRecord(record.id + 10, f"elsewhere/{record.file_name}", record.path, record.height, record.width)
        for record in truth.images[1:]
    ]
    others = CocoDataset(tmp_path / "other.json", records, CATEGORIES, ())
    assert [image.image_id for image in load(run, others, masks=False)] == [12, 13, 14]
    assert len(Bench.of(run, others).truth) == 3
    strange = CocoDataset(tmp_path / "other.json", [replace(records[0], file_name="x.png")], CATEGORIES, ())
    with pytest.raises(DataError, match="--ground-truth: expected images of the run"):
        load(run, strange, masks=False)


def test_some_of_the_images_score_as_if_there_were_no_others(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "gt.json", num_images=5)
    run = write_run(tmp_path / "run", ENSEMBLE, truth)
    bench = Bench.of(run, truth).among([1, 3])
    assert [record.id for record in bench.truth.images] == [2, 4]
    alone = Bench(bench.images, truth, CATEGORIES)
    assert bench.report(ENSEMBLE).to_json() == alone.report(ENSEMBLE).to_json()
    assert bench.report(ENSEMBLE).num_objects == sum(len(truth.entries(image_id)) for image_id in (2, 4))
