"""COCO results: written as a stream, read back the same, and checked field by field."""

import json
import math
import resource
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from tis_ray.errors import DataError
from tis_ray.formats import coco
from tis_ray.formats.bad_entries import BadEntries
from tis_ray.formats.coco_results import ResultsWriter, read_results, to_results
from tis_ray.instances import Categories, Instances
from tis_ray.masks import BoxMasks

HEIGHT, WIDTH = 30, 40
CATEGORIES = Categories((4, 9), ("car", "truck"))
RLE = {"size": [HEIGHT, WIDTH], "counts": [100, 5, HEIGHT * WIDTH - 105]}


@pytest.fixture
def dataset(tmp_path):
    path = tmp_path / "instances.json"
    content = {
        "images": [{"id": 3, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH}],
        "categories": CATEGORIES.to_json(),
        "annotations": [],
    }
    path.write_text(json.dumps(content))
    return coco.read(path)


def _instances(*, masks: bool = True) -> Instances:
    boxes = np.array([[2.00049, 3.5, 12, 9.25], [0, 0, 40, 30]], dtype=np.float32)
    patches = BoxMasks(boxes, np.ones((2, 28, 28), np.float16)) if masks else None
    return Instances.of(boxes, [0.12345678, 1.0], [1, 0], patches)


def test_results_hold_plain_rounded_numbers_and_the_data_set_s_ids():
    first, second = to_results(_instances(), image_id=3, categories=CATEGORIES, size_hw=(HEIGHT, WIDTH))
    assert (first["image_id"], first["category_id"], first["score"]) == (3, 9, 0.123457)
    assert first["bbox"] == pytest.approx([2.0, 3.5, 10.0, 5.75], abs=1e-9)
    assert {type(value) for value in first["bbox"]} == {float}
    assert second["segmentation"]["size"] == [HEIGHT, WIDTH]
    assert coco_mask.area(second["segmentation"]) > 0.99 * HEIGHT * WIDTH  # pasting rounds corners off


def _rescored(quality: list[float], present: list[bool]) -> Instances:
    found = _instances()
    return replace(found, masks=replace(found.masks, quality=np.float32(quality), present=np.array(present)))


def test_masks_of_which_a_fit_is_predicted_have_a_score_of_their_own():
    arguments = {"image_id": 3, "categories": CATEGORIES, "size_hw": (HEIGHT, WIDTH)}
    plain, results = to_results(_instances(), **arguments), to_results(_rescored([0.5, 0.25], [True] * 2), **arguments)
    assert [result.pop("mask_score") for result in results] == [0.061728, 0.25]
    assert results == plain
    boxes, first = to_results(_rescored([0.5, 0.25], [False, True]), **arguments)
    assert "mask_score" not in boxes
    assert first["mask_score"] == 0.25
    assert all("mask_score" not in one for one in to_results(_rescored([1, 1], [True] * 2), **arguments, masks=False))


def test_results_without_masks():
    boxes_only = to_results(_instances(masks=False), image_id=3, categories=CATEGORIES, size_hw=(HEIGHT, WIDTH))
    unwanted = to_results(_instances(), image_id=3, categories=CATEGORIES, size_hw=(HEIGHT, WIDTH), masks=False)
    assert boxes_only == unwanted
    assert all("segmentation" not in result for result in boxes_only)
    assert to_results(Instances.empty(mask_size=28), image_id=3, categories=CATEGORIES, size_hw=(5, 5)) == []


def test_what_is_written_is_read_back(tmp_path, dataset):
    results = to_results(_instances(), image_id=3, categories=CATEGORIES, size_hw=(HEIGHT, WIDTH))
    with ResultsWriter(tmp_path / "results.json") as writer:
        writer.write(results[:1])
        writer.write([])
        writer.write(results[1:])
    assert writer.num_results == 2
    assert read_results(tmp_path / "results.json", dataset) == results
    assert json.loads((tmp_path / "results.json").read_text()) == results


def test_no_results_are_an_empty_list(tmp_path, dataset):
    with ResultsWriter(tmp_path / "results.json"):
        pass
    assert read_results(tmp_path / "results.json", dataset) == []


def test_a_failed_run_leaves_the_old_file_and_nothing_else(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "results.json").write_text("old")
    with pytest.raises(TypeError, match="not JSON serializable"), ResultsWriter(folder / "results.json") as writer:
        writer.write([{"image_id": 1}, {"image_id": object()}])
    assert (folder / "results.json").read_text() == "old"
    assert [path.name for path in folder.iterdir()] == ["results.json"]


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no_such/results\.json: cannot be written \(No such file"):
        ResultsWriter(tmp_path / "no_such/results.json").__enter__()


@given(
    patches=hnp.arrays(np.float16, (3, 7, 7), elements=st.sampled_from([0.0, 0.25, 0.75, 1.0])),
    corners=hnp.arrays(np.float32, (3, 4), elements=st.integers(0, 30).map(float)),
    scores=hnp.arrays(np.float32, 3, elements=st.integers(0, 1000).map(lambda n: n / 1000)),
)
def test_any_prediction_survives_the_file(tmp_path_factory, patches, corners, scores):
    boxes = np.concatenate([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1)
    instances = Instances.of(boxes, scores, [0, 1, 0], BoxMasks(boxes, patches))
    results = to_results(instances, image_id=3, categories=CATEGORIES, size_hw=(HEIGHT, WIDTH))
    folder = tmp_path_factory.mktemp("results")
    with ResultsWriter(folder / "results.json") as writer:
        writer.write(results)
    images = [{"id": 3, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH}]
    truth = {"images": images, "categories": CATEGORIES.to_json()}
    (folder / "truth.json").write_text(json.dumps(truth))
    again = read_results(folder / "results.json", coco.read(folder / "truth.json", annotated=False))
    assert again == results
    assert [result["score"] for result in again] == pytest.approx(scores.tolist(), abs=1e-6)
    assert [result["segmentation"] for result in again] == instances.masks.to_rle(HEIGHT, WIDTH)


def test_other_spellings_of_a_mask_become_compressed_runs(tmp_path, dataset):
    path = tmp_path / "results.json"
    base = {"image_id": 3, "category_id": 4, "score": 0.5}
    square = [[10, 5, 20, 5, 20, 15, 10, 15]]
    path.write_text(json.dumps([{**base, "segmentation": RLE}, {**base, "segmentation": square}]))
    runs, polygon = read_results(path, dataset)
    assert coco_mask.area(runs["segmentation"]) == 5
    assert runs["bbox"] == [3, 10, 1, 5]  # the mask's own box, where none is given
    assert coco_mask.area(polygon["segmentation"]) == 100
    assert polygon["bbox"] == [10, 5, 10, 10]
    assert isinstance(polygon["segmentation"]["counts"], str)


BAD = {
    "an object": ({"annotations": []}, "expected a list of results; got an object"),
    "no object": ([7], "result 0: expected an object; got int"),
    "unknown image": ({"image_id": 4}, "result 1: image_id: expected one of the data set's; got 4"),
    "image a string": ({"image_id": "3"}, "result 1: image_id: .* got '3'"),
    "no category": ({"category_id": ...}, "result 1 of image 3: category_id: .* got no such key"),
    "unknown category": ({"category_id": 1}, "result 1 of image 3: category_id: .* got 1"),
    "no score": ({"score": ...}, "result 1 of image 3: score: expected a number in 0..1; got no such key"),
    "mask's score above its box's": (
        {"mask_score": 0.6},
        "result 1 of image 3: mask_score: expected a number from 0 to the score; got 0.6",
    ),
    "mask's score a string": ({"mask_score": "0.5"}, "result 1 of image 3: mask_score: .* got '0.5'"),
    "a mask's score alone": ({"score": ..., "mask_score": 0.5}, "result 1 of image 3: score: .* got no such key"),
    "score above one": ({"score": 1.5}, "result 1 of image 3: score: .* got 1.5"),
    "score nan": ({"score": float("nan")}, "result 1 of image 3: score: .* got nan"),
    "score null": ({"score": None}, "result 1 of image 3: score: .* got None"),
    "box nan": ({"bbox": [1, 2, float("nan"), 4]}, r"result 1 of image 3: bbox: .* got \[1, 2, nan, 4\]"),
    "box infinite": ({"bbox": [1, 2, float("inf"), 4]}, "result 1 of image 3: bbox: expected finite"),
    "box negative": ({"bbox": [1, 2, -3, 4]}, "result 1 of image 3: bbox: .* width and height >= 0"),
    "box beyond float32": ({"bbox": [1, 2, 3, 1e300]}, "result 1 of image 3: bbox: expected finite"),
    "box of more digits than a float has": ({"bbox": [1, 2, 3, 10**400]}, "result 1 of image 3: bbox: expected finite"),
    "box missing": ({"bbox": ...}, "result 1 of image 3: bbox: .* got no such key"),
    "mask of another size": (
        {"segmentation": {**RLE, "size": [WIDTH, HEIGHT]}},
        r"result 1 of image 3: segmentation: expected an RLE of size \[30, 40\], its image's; got \[40, 30\]",
    ),
    "mask an empty object": ({"segmentation": {}}, "result 1 of image 3: segmentation: expected an RLE with size"),
    "mask of fractions": ({"segmentation": {**RLE, "counts": [100.5, 1099.5]}}, "segmentation: expected RLE counts"),
    "mask of five numbers": ({"segmentation": [[1, 2, 3, 4, 5]]}, "segmentation: .* at least 6 numbers .* got 5"),
    "mask cut short": ({"segmentation": {**RLE, "counts": "d3"}}, "result 1 of image 3: segmentation: .* add up"),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD.keys())
def test_a_mistake_names_file_position_and_field(tmp_path, dataset, changes, message):
    good = {"image_id": 3, "category_id": 4, "bbox": [1, 2, 3, 4], "score": 0.5}
    content = changes
    if isinstance(changes, dict) and "annotations" not in changes:
        content = [good, {key: value for key, value in {**good, **changes}.items() if value is not ...}]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message) as caught:
        read_results(path, dataset)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_all_mistakes_of_a_file_are_counted_and_the_first_are_named(tmp_path, dataset):
    good = {"image_id": 3, "category_id": 4, "bbox": [1, 2, 3, 4], "score": 0.5}
    wrong = [{**good, "score": math.nan}, {**good, "image_id": 8}, {**good, "score": 2}, {**good, "category_id": 1}]
    path = tmp_path / "results.json"
    path.write_text(json.dumps([good, *wrong, good]))
    with pytest.raises(DataError) as caught:
        read_results(path, dataset)
    assert str(caught.value) == (
        f"{path}: 4 results are wrong (2 by score, 1 by image_id, 1 by category_id): "
        "result 1 of image 3: score: expected a number in 0..1; got nan; "
        "result 2: image_id: expected one of the data set's; got 8; "
        "result 3 of image 3: score: expected a number in 0..1; got 2; ..."
    )


def test_mistakes_are_left_out_and_told_where_they_may_be(tmp_path, dataset):
    good = {"image_id": 3, "category_id": 4, "bbox": [1, 2, 3, 4], "score": 0.5}
    path = tmp_path / "results.json"
    path.write_text(json.dumps([{**good, "score": -1}, good, 7, {**good, "segmentation": {**RLE, "size": [2, 2]}}]))
    bad = BadEntries(skip=True)
    assert read_results(path, dataset, bad=bad) == [good]
    assert (bad.total, dict(bad.counts)) == (3, {"score": 1, "entry": 1, "segmentation": 1})
    assert "result 3 of image 3: segmentation: expected an RLE of size [30, 40]" in bad.told("results")
    path.write_text("7")
    with pytest.raises(DataError, match="expected a list of results; got int"):
        read_results(path, dataset, bad=bad)


def test_a_full_disk_is_one_message_and_leaves_nothing(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with (
            pytest.raises(DataError, match=r"results\.json: cannot be written \(File too large\)$"),
            ResultsWriter(tmp_path / "results.json") as writer,
        ):
            writer.write([{"score": 0.5}] * 10_000)
        with pytest.raises(DataError, match="File too large"), ResultsWriter(tmp_path / "results.json") as writer:
            writer.write([{"score": 0.5}] * 100)  # no more than the buffer: the disk is asked at the end
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
