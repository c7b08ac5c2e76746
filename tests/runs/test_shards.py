"""Shards of a batch run give back what was put in, to the bit."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tis_ray.errors import DataError
from tis_ray.instances import Categories, Instances
from tis_ray.masks import BoxMasks
from tis_ray.runs import kept_views, shards
from tis_ray.runs.records import ImageOutcome, ImageViews, ViewOutcome
from tis_ray.views import View

CATEGORIES = Categories(ids=(3, 7), names=("car", "person"))
VIEWS = (View("a", 100), View("a", 100, flip=True))


def found(count: int, *, quality: bool = False) -> Instances:
    generator = np.random.default_rng(count)
    corners = generator.uniform(0, 30, (count, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + generator.uniform(1, 9, (count, 2)).astype(np.float32)], axis=1)
    masks = BoxMasks(
        boxes + np.float32(0.25),
        generator.random((count, 7, 7)).astype(np.float16),
        np.arange(count) % 3 != 1,
        "detectron2",
        generator.random(count).astype(np.float32) if quality else None,
    )
    return Instances.of(boxes, generator.random(count), np.arange(count) % 2, masks, source=np.arange(count) % 2)


def same(one: Instances, other: Instances) -> None:
    for name in ("boxes", "scores", "labels", "source"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), strict=True)


@pytest.mark.parametrize("quality", [False, True])
def test_results_come_back_with_exact_masks(tmp_path: Path, quality: bool) -> None:
    views = (ViewOutcome("a@100", "ok", 0.5, 3), ViewOutcome("a@100/flip", "timeout", 2.0, 0))
    outcomes = [
        ImageOutcome(5, "a.png", (40, 50), "ok", found(4, quality=quality), file_bytes=12, model_version="v"),
        ImageOutcome(6, "b.png", (0, 0), "failed", Instances.empty(), error="no such file"),
        ImageOutcome(9, "c.png", (41, 30), "degraded", found(0), outcomes=views),
        ImageOutcome(10, "d.png", (64, 64), "ok", found(2).without_masks()),
    ]
    shards.write(tmp_path / "0.parquet", outcomes, CATEGORIES, "digest")
    back = list(shards.read(tmp_path / "0.parquet"))
    about = json.loads(pq.read_schema(tmp_path / "0.parquet").metadata[b"tis_ray"])
    assert (about["run"], Categories.from_json(about["categories"])) == ("digest", CATEGORIES)
    for before, after in zip(outcomes, back, strict=True):
        for field in ("image_id", "file_name", "size_hw", "status", "error", "outcomes", "file_bytes", "model_version"):
            assert getattr(before, field) == getattr(after, field)
        same(before.instances, after.instances)
        if before.instances.masks is None:
            assert after.instances.masks is None
        else:
            assert after.instances.masks.to_rle(*before.size_hw) == before.instances.masks.to_rle(*before.size_hw)
            np.testing.assert_array_equal(after.instances.mask_scores, before.instances.mask_scores)
    assert back[2].missing == ("a@100/flip",)


def test_views_come_back_to_the_bit(tmp_path: Path) -> None:
    images = [
        ImageViews(1, (40, 50), {VIEWS[0]: found(3, quality=True), VIEWS[1]: found(0)}),
        ImageViews(2, (0, 0)),
        ImageViews(3, (30, 30), {VIEWS[1]: found(5).without_masks()}),
    ]
    kept_views.write(tmp_path / "0.parquet", images, "digest")
    back = list(kept_views.read(tmp_path / "0.parquet", VIEWS))
    assert [(one.image_id, one.size_hw, list(one.found)) for one in back] == [
        (one.image_id, one.size_hw, list(one.found)) for one in images
    ]
    for before, after in zip(images, back, strict=True):
        for view, instances in before.found.items():
            same(instances, after.found[view])
            if instances.masks is None:
                assert after.found[view].masks is None
                continue
            assert isinstance(instances.masks, BoxMasks)
            masks = after.found[view].masks
            assert isinstance(masks, BoxMasks)
            for name in ("boxes", "probabilities", "present", "quality"):
                np.testing.assert_array_equal(getattr(masks, name), getattr(instances.masks, name))
            assert masks.pasting == "detectron2"


def test_any_tool_can_read_the_columns(tmp_path: Path) -> None:
    shards.write(tmp_path / "0.parquet", [ImageOutcome(5, "a.png", (40, 50), "ok", found(4))], CATEGORIES, "digest")
    table = pq.read_table(tmp_path / "0.parquet")
    assert table.schema.names == shards.SCHEMA.names
    row = table.to_pylist()[0]
    assert len(row["boxes"]) == len(row["scores"]) == len(row["labels"]) == len(row["masks"]) == 4
    np.testing.assert_array_equal(np.float32(row["boxes"]), found(4).boxes)


@pytest.mark.parametrize("content", [b"", b"PAR1 nothing PAR1"])
def test_a_damaged_shard_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "0.parquet"
    path.write_bytes(content)
    for read in (lambda: list(shards.read(path)), lambda: list(kept_views.read(path, VIEWS))):
        with pytest.raises(DataError, match=r"0\.parquet: expected a shard of"):
            read()


def test_the_two_kinds_of_shards_are_told_apart(tmp_path: Path) -> None:
    kept_views.write(tmp_path / "views.parquet", [], "digest")
    with pytest.raises(DataError, match="another kind of Parquet file than 'results 1'"):
        list(shards.read(tmp_path / "views.parquet"))


def test_a_shard_of_another_run_is_refused(tmp_path: Path) -> None:
    shards.write(tmp_path / "0.parquet", [], CATEGORIES, "one")
    kept_views.write(tmp_path / "views.parquet", [], "one")
    assert list(shards.read(tmp_path / "0.parquet", "one")) == list(shards.read(tmp_path / "0.parquet")) == []
    for read in (
        lambda: list(shards.read(tmp_path / "0.parquet", "other")),
        lambda: shards.noted(tmp_path / "0.parquet", "other"),
        lambda: list(kept_views.read(tmp_path / "views.parquet", VIEWS, "other")),
        lambda: kept_views.check(tmp_path / "views.parquet", "other"),
    ):
        with pytest.raises(DataError, match="a shard of the run one, which is another one than other"):
            read()


def test_a_bit_that_has_turned_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    """Values have checksums; what is not under one is there for other readers, as the least and most of a page."""
    path = tmp_path / "0.parquet"
    outcomes = [ImageOutcome(i, f"{i}.png", (40, 50), "ok", found(4), file_bytes=i) for i in range(3)]
    shards.write(path, outcomes, CATEGORIES, "digest")
    assert shards.noted(path, "digest") == [shards.Noted(i, "ok", i) for i in range(3)]
    whole, rows = path.read_bytes(), pq.read_table(path).to_pylist()
    refused = 0
    for position in range(4, 2000, 13):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        try:
            shards.noted(path, "digest")
        except DataError:
            refused += 1
        else:
            assert pq.read_table(path).to_pylist() == rows
    assert refused > 100
