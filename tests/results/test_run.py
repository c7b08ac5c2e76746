"""Fusing results files: the same as other people's code on the union, in any order the same bytes, nothing invented."""

import json
import random
from itertools import permutations

import numpy as np
import pytest

from tests.results.files import HEIGHT, WIDTH, dense, results_of, write, write_data
from tis_ray.config import ResultsFiles
from tis_ray.errors import ConfigError, DataError
from tis_ray.evaluation.coco import evaluate
from tis_ray.formats import coco
from tis_ray.formats.coco_results import read_results
from tis_ray.ops.overlaps import pairwise_iou
from tis_ray.results import fuse_files, open_files


def fused(folder, contents, **config):
    """Results files of these contents, fused."""
    data = write_data(folder)
    paths = {name: str(write(folder / f"{name}.json", content)) for name, content in contents.items()}
    entries = config.pop("results", {})
    files = {"results": {name: {"file": path, **entries.get(name, {})} for name, path in paths.items()}}
    summary = fuse_files(ResultsFiles.model_validate({**files, **config}), data, folder / "fused.json")
    written = json.loads((folder / "fused.json").read_text())
    assert summary.num_read == {name: len(content) for name, content in contents.items()}
    assert (summary.num_images, summary.num_written) == (3, len(written))
    return written


def xyxy(results):
    boxes = np.array([one["bbox"] for one in results], dtype=np.float32).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def test_nms_is_torchvision_s_on_the_union_with_every_mask_as_it_came(tmp_path):
    import torch
    from torchvision.ops import batched_nms

    a, b, c = results_of(0), results_of(1), results_of(2)
    expected = []
    for image_id in (1, 3, 5):
        union = [one for one in a + b + c if one["image_id"] == image_id]
        kept = batched_nms(
            torch.from_numpy(xyxy(union)),
            torch.tensor([one["score"] for one in union]),
            torch.tensor([one["category_id"] for one in union]),
            0.5,
        )
        expected += [union[i] for i in kept.tolist()]
    found = fused(tmp_path, {"a": a, "b": b, "c": c}, fusion={"rules": [{"nms": {"iou_threshold": 0.5}}]})
    assert 20 < len(expected) < 90
    assert found == expected


def test_voted_masks_are_the_majority_by_score_pixel_by_pixel(tmp_path):
    a, b = results_of(0, ids=(1,)), results_of(1, ids=(1,))
    found = fused(tmp_path, {"a": a, "b": b}, fusion={"rules": ["nms"], "masks": {"vote": {"iou_threshold": 0.4}}})
    union = a + b
    ious = pairwise_iou(xyxy(found), xyxy(union))
    several = 0
    for one, row in zip(found, ious, strict=True):
        same = [other["category_id"] == one["category_id"] for other in union]
        voters = [other for other, iou, alike in zip(union, row, same, strict=True) if alike and iou >= 0.4]
        total = sum(voter["score"] * dense(voter["segmentation"]) for voter in voters)
        expected = total >= 0.5 * sum(voter["score"] for voter in voters)
        np.testing.assert_array_equal(dense(one["segmentation"]), expected)
        several += len(voters) > 1
    assert several > 3


def test_the_scores_of_masks_go_through_fusing(tmp_path):
    a, b = results_of(0), results_of(1)
    for number, one in enumerate(a):
        one["mask_score"] = round(one["score"] * (number % 10) / 10, 6)
    nms = {"rules": [{"nms": {"iou_threshold": 0.5}}]}
    kept = fused(tmp_path, {"a": a, "b": b}, fusion=nms)
    assert [one for one in kept if one in a] == [one for one in kept if one["mask_score"] != one["score"]]
    assert all({**one, "mask_score": one["score"]} in [{**x, "mask_score": x["score"]} for x in a + b] for one in kept)
    halved = fused(tmp_path, {"a": a}, fusion=nms, results={"a": {"weight": 0.5}})
    assert len(halved) > 10
    (alone,) = fused(tmp_path, {"a": a[:1], "b": a[:1]}, fusion={"rules": ["nms"], "masks": "average"})
    assert alone["mask_score"] == a[0]["mask_score"]


def test_truth_as_results_scores_one_hundred(tmp_path):
    truth = [{**one, "id": i, "iscrowd": 0, "area": 1} for i, one in enumerate(results_of(0, count=4), start=1)]
    images = [
        {"id": image_id, "file_name": f"{image_id}.jpg", "height": HEIGHT, "width": WIDTH} for image_id in (1, 3, 5)
    ]
    categories = [{"id": 4, "name": "car"}, {"id": 9, "name": "bus"}]
    data = write(tmp_path / "truth.json", {"images": images, "categories": categories, "annotations": truth})
    paths = [
        write(tmp_path / "a.json", [{**one, "score": 0.9} for one in truth[::2]]),
        write(tmp_path / "b.json", [{**one, "score": 0.8} for one in truth]),
    ]
    fuse_files(open_files(paths, ["fusion.rules=[{nms: {iou_threshold: 0.99}}]"]), data, tmp_path / "fused.json")
    dataset = coco.read(data)
    report = evaluate(dataset, read_results(tmp_path / "fused.json", dataset)).to_json()
    assert report["bbox"]["AP"] == pytest.approx(1)
    assert report["segm"]["AP"] == pytest.approx(1)


def test_the_order_of_files_and_lines_changes_no_byte(tmp_path):
    contents = {name: results_of(seed) for seed, name in enumerate("abc")}
    for results in contents.values():
        for one in results[::3]:
            del one["segmentation"]
        results += [{**results[1], "segmentation": results[4]["segmentation"]}] * 2
    config = {"fusion": {"rules": ["soft_nms", "vote"], "masks": "average"}, "results": {"b": {"weight": 2}}}
    config["results"]["c"] = {"member": "a", "scale": 9}
    found = set()
    for seed in range(4):
        order = random.Random(seed)
        shuffled = {name: order.sample(contents[name], len(contents[name])) for name in order.sample("abc", 3)}
        fused(tmp_path, shuffled, **{key: dict(value) for key, value in config.items()})
        found.add((tmp_path / "fused.json").read_bytes())
    assert len(found) == 1


def test_results_that_differ_by_their_mask_alone_have_an_order(tmp_path):
    (one,) = results_of(0, ids=(1,), count=1)
    masks = [one["segmentation"], {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}, None]
    twins = [{**one, "segmentation": mask} for mask in masks]
    found = [fused(tmp_path, {"a": list(order)}, fusion={"rules": []}) for order in permutations(twins)]
    assert all(other == found[0] for other in found)
    assert len(found[0]) == 3


def test_empty_files_and_images_without_results_are_normal(tmp_path):
    only = results_of(0, ids=(3,), count=2)
    assert fused(tmp_path, {"a": [], "b": only}, fusion={"rules": []}) == sorted(only, key=lambda one: -one["score"])
    assert fused(tmp_path, {"a": [], "b": []}) == []


def test_a_result_without_a_mask_is_written_without_one(tmp_path):
    results = results_of(0, ids=(1,), count=4)
    del results[0]["segmentation"]
    found = fused(tmp_path, {"a": results}, fusion={"rules": []})
    assert sum("segmentation" in one for one in found) == 3
    assert all("segmentation" not in one for one in found if one["score"] == results[0]["score"])


def test_weight_range_and_role_are_those_of_the_entries(tmp_path):
    def one(side, score):
        rle = results_of(0, ids=(1,), count=1)[0]["segmentation"]
        box = [0, 0, side, side]
        return {"image_id": 1, "category_id": 4, "bbox": box, "score": score, "segmentation": rle}

    contents = {"a": [one(10, 0.5), one(30, 0.25)], "b": [one(20, 0.5)], "c": [one(20, 0.75)]}
    entries = {"a": {"range": [0, 20]}, "b": {"weight": 0.5, "role": "boxes"}, "c": {"role": "masks"}}
    found = fused(tmp_path, contents, results=entries, fusion={"rules": []})
    assert [(one["bbox"][2], one["score"]) for one in found] == [(10, 0.5), (20, 0.25)]


def test_scales_choose_the_masks(tmp_path):
    a, b = results_of(0, ids=(1,), count=1), results_of(1, ids=(1,), count=1)
    for results in (a, b):
        results[0] |= {"bbox": [4, 4, 30, 30], "category_id": 4}
    entries = {"a": {"scale": 48}, "b": {"scale": 480}}  # at 480, the 30 px are 300: nearer to 224
    masks = {"scale_ratio": {"k": 1}}
    (found,) = fused(tmp_path, {"a": a, "b": b}, results=entries, fusion={"rules": ["nms"], "masks": masks})
    assert found["segmentation"] == b[0]["segmentation"]


BASE = {"image_id": 3, "category_id": 4, "bbox": [1, 2, 3, 4], "score": 0.5}
BAD = {
    "no JSON": ("<html>", "not valid JSON at line 1, column 1"),
    "cut short": (json.dumps([BASE])[:-5], "cut short at line 1"),
    "no list": ({"annotations": [BASE]}, "expected a list of results; got an object"),
    "no image": ([{**BASE, "image_id": None}], "result 0: image_id: .*; got None"),
    "unknown image": ([BASE, {**BASE, "image_id": 7}], "result 1: image_id: expected one of the data set's; got 7"),
    "unknown class": ([{**BASE, "category_id": 1}], "result 0 of image 3: category_id: .*; got 1"),
    "nan": ([{**BASE, "bbox": [1, 2, float("nan"), 4]}], "result 0 of image 3: bbox: expected finite"),
    "infinity": ([{**BASE, "score": float("inf")}], "result 0 of image 3: score: .*; got inf"),
    "score below 0": ([{**BASE, "score": -0.1}], "result 0 of image 3: score: .*; got -0.1"),
    "negative size": ([{**BASE, "bbox": [1, 2, 3, -4]}], "result 0 of image 3: bbox: .* height >= 0"),
    "mask of another size": (
        [{**BASE, "segmentation": {"size": [WIDTH, HEIGHT], "counts": "0"}}],
        r"result 0 of image 3: segmentation: expected an RLE of size \[48, 64\]",
    ),
    "broken counts": (
        [{**BASE, "segmentation": {"size": [HEIGHT, WIDTH], "counts": "abc"}}],
        "result 0 of image 3: segmentation: expected RLE counts that add up",
    ),
    "too few numbers": (
        [{**BASE, "segmentation": [[1, 2, 3, 4]]}],
        "result 0 of image 3: segmentation: expected polygons of at least 6 numbers",
    ),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD.keys())
def test_a_wrong_file_is_named_with_image_and_field_and_nothing_is_left_behind(tmp_path, content, message):
    data = write_data(tmp_path)
    good, bad = write(tmp_path / "good.json", results_of(0)), tmp_path / "bad.json"
    bad.write_text(content if isinstance(content, str) else json.dumps(content))
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match=message) as caught:
        fuse_files(open_files([good, bad]), data, tmp_path / "out/fused.json")
    assert str(caught.value).startswith(f"{bad}: ")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_mistake_that_fusing_finds_leaves_the_old_file(tmp_path):
    path = write(tmp_path / "a.json", results_of(0))
    out = write(tmp_path / "fused.json", "old")
    with pytest.raises(ConfigError, match=r"fusion\.rules\.0: expected one of .*nms"):
        fuse_files(open_files([path], ["fusion.rules=[nsm]"]), write_data(tmp_path), out)
    with pytest.raises(ConfigError, match=r"rare_boost"):  # the classes have no frequency
        fuse_files(open_files([path], ["fusion.rare_boost={}"]), write_data(tmp_path), out)
    assert json.loads(out.read_text()) == "old"


def test_a_file_is_not_written_over_while_it_is_read(tmp_path):
    path = write(tmp_path / "a.json", results_of(0))
    with pytest.raises(ConfigError, match=r"--out: expected another file than results\.a; got .*a\.json"):
        fuse_files(open_files([path]), write_data(tmp_path), tmp_path / "x/../a.json")
    with pytest.raises(ConfigError, match=r"--out: expected another file than --data; got .*data\.json"):
        fuse_files(open_files([path]), write_data(tmp_path), tmp_path / "data.json")
