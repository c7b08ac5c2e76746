"""The files of a batch run: several formats of one run, their options, and what they refuse before it begins."""

from pathlib import Path

import numpy as np
import orjson
import pytest
from pycocotools import mask as coco_mask

from tis_ray.errors import ConfigError, DataError
from tis_ray.formats.image_list import ListedImage
from tis_ray.formats.wad_csv import read_csv
from tis_ray.instances import Categories, Instances
from tis_ray.masks import BoxMasks
from tis_ray.runs.records import ImageOutcome, Status
from tis_ray.submission.writing import check_apart, rehearse, results_files, write_results

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools

SIZE_HW = (60, 80)
CLASSES = Categories((1, 2, 3), ("person", "car", "tree"))


def listed(*names: str) -> list[ListedImage]:
    return [ListedImage(i, name, Path(name), SIZE_HW) for i, name in enumerate(names, start=7)]


def outcome(image: ListedImage, instances: Instances, status: Status = "ok") -> ImageOutcome:
    return ImageOutcome(image.id, image.file_name, SIZE_HW, status, instances)


def found(seed: int, *, count: int = 6) -> Instances:
    """Overlapping instances of the first two classes."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 30, (count, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + rng.uniform(5, 28, (count, 2)).astype(np.float32)], axis=1)
    patches = BoxMasks(boxes, rng.random((count, 28, 28)).astype(np.float16))
    return Instances.of(boxes, rng.random(count), rng.integers(0, 2, count), patches)


def test_the_csv_holds_the_masks_of_the_json_of_the_same_run(tmp_path: Path) -> None:
    images = listed("a/one.jpg", "two.jpg", "three.jpg")
    results = [outcome(image, found(seed, count=6 * (seed < 2))) for seed, image in enumerate(images)]
    out = tmp_path / "sub.csv"
    summary = write_results(results, out, categories=CLASSES, files=results_files(out, ["wad", "coco"]))
    assert (summary.num_images, summary.num_instances, summary.num_dropped) == (3, 12, 0)
    rows = read_csv(out, size_hw=SIZE_HW)
    entries = orjson.loads((tmp_path / "sub.json").read_bytes())
    assert list(rows) == ["one", "two"]
    for name, image in zip(rows, images[:2], strict=True):
        own = [entry for entry in entries if entry["image_id"] == image.id]
        assert len(own) == len(rows[name]) == 6
        for row, entry in zip(rows[name], own, strict=True):
            assert row.label_id == {1: 36, 2: 33}[entry["category_id"]]
            assert row.score == entry["score"]
            np.testing.assert_array_equal(coco_mask.decode(row.rle), coco_mask.decode(entry["segmentation"]))


def test_disjoint_masks_share_no_pixel_and_cover_the_same(tmp_path: Path) -> None:
    results = [outcome(image, found(3)) for image in listed("one.jpg")]
    covered = {}
    for disjoint in (False, True):
        out = tmp_path / f"{disjoint}.csv"
        write_results(results, out, categories=CLASSES, files=results_files(out, ["wad"], disjoint=disjoint))
        covered[disjoint] = sum(coco_mask.decode(row.rle) for row in read_csv(out, size_hw=SIZE_HW)["one"])
    assert covered[False].max() > 1
    np.testing.assert_array_equal(covered[True], covered[False] > 0)


def test_instances_that_a_format_has_no_place_for_are_counted(tmp_path: Path) -> None:
    instances = found(1)
    trees = Instances.of(instances.boxes, instances.scores, np.full(6, 2), instances.masks)
    results = [outcome(image, trees) for image in listed("one.jpg")]
    out = tmp_path / "sub.csv"
    summary = write_results(results, out, categories=CLASSES, files=results_files(out, ["wad", "coco"]))
    assert (summary.num_instances, summary.num_dropped) == (0, 6)
    assert summary.others == ((out.with_suffix(".json"), 6),)


def test_images_answered_without_some_views_are_told(tmp_path: Path) -> None:
    one, two = listed("one.jpg", "two.jpg")
    results = [outcome(one, found(1)), outcome(two, Instances.empty(), "degraded")]
    summary = write_results(results, tmp_path / "x.json", categories=CLASSES)
    assert [image.file_name for image in summary.degraded] == ["two.jpg"]


def test_failed_images_are_in_no_file_but_their_own(tmp_path: Path) -> None:
    one, two = listed("one.jpg", "two.jpg")
    broken = ImageOutcome(one.id, one.file_name, (0, 0), "failed", Instances.empty(), error="no image")
    out = tmp_path / "x.json"
    files = results_files(out, ["coco", "annotations"])
    summary = write_results([broken, outcome(two, found(1))], out, categories=CLASSES, files=files)
    assert (summary.failed, summary.num_images, summary.failures_file) == ((broken,), 2, tmp_path / "x.failed.json")
    failures = orjson.loads((tmp_path / "x.failed.json").read_bytes())
    assert failures == [{"image_id": one.id, "file_name": "one.jpg", "error": "no image"}]
    assert [image["id"] for image in orjson.loads((tmp_path / "x.annotations.json").read_bytes())["images"]] == [two.id]
    write_results([outcome(two, found(1))], out, categories=CLASSES)
    assert not (tmp_path / "x.failed.json").exists()


REFUSED = {
    "unknown": (["coco", "wat"], {}, r"--format: expected one of .*wad.*; got 'wat'; did you mean 'wad'"),
    "twice": (["coco", "coco"], {}, r"--format: expected formats of different files; got .*x\.json twice"),
    "option of another": (["coco"], {"disjoint": True}, r"--disjoint: expected a format .*; got coco"),
}


@pytest.mark.parametrize(("formats", "options", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_formats_that_cannot_be_written_are_refused(formats, options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        results_files(Path("x.json"), formats, **options)


def test_no_format_is_written_over_what_is_read(tmp_path: Path) -> None:
    """The second one's file is named after the first."""
    data = tmp_path / "x.json"
    check_apart(results_files(tmp_path / "x.csv", ["wad"]), data)
    with pytest.raises(ConfigError, match=r"--out: expected another file than those that are read; got .*x\.json"):
        check_apart(results_files(tmp_path / "x.csv", ["wad", "coco"]), tmp_path / "run", data)


def test_what_a_format_cannot_express_is_refused_before_the_run(tmp_path: Path) -> None:
    files = results_files(tmp_path / "x.csv", ["wad"])
    for names in (("a/one.jpg", "b/one.jpg"), ("a\\one.jpg", "b\\one.jpg")):
        with pytest.raises(DataError, match=r"got twice: one$"):
            rehearse(files, listed(*names), CLASSES)
    with pytest.raises(ConfigError, match="expected some of WAD's"):
        rehearse(files, listed("one.jpg"), Categories((1,), ("tram",)))
    rehearse(files, listed("one.jpg"), CLASSES)
    assert list(tmp_path.iterdir()) == []
