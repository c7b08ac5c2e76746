"""Checking a data set: every fault is found and counted, none is made up, and what is left can be trained on."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.curation.broken import EXPECTED, broken_set, picture, whole_set
from tis_ray.curation.check import check, mapped
from tis_ray.curation.objects import measure, repeated
from tis_ray.curation.opening import open_leniently, parted
from tis_ray.curation.pair import compare
from tis_ray.curation.problems import KINDS, MOST_EXAMPLES, Problem, Problems
from tis_ray.errors import DataError
from tis_ray.formats import coco
from tis_ray.formats.dataset import ImageRecord


def test_a_whole_set_has_no_problems(tmp_path: Path):
    findings = check(*open_leniently(whole_set(tmp_path)), decode_all=True)
    assert findings.problems.counts == {}
    assert findings.problems.verdict() == "no problems"
    assert sorted(findings.areas.tolist()) == [100.0] * 6 + [600.0] * 6
    assert findings.decoded == 6


def test_every_fault_of_a_broken_set_is_counted_and_none_else(tmp_path: Path):
    findings = check(*open_leniently(broken_set(tmp_path)))
    assert dict(findings.problems.counts) == EXPECTED
    examples = findings.problems.examples
    assert examples["annotation entry"][0].endswith("id: expected each id once; got 1 again")
    assert "category_id: expected an id among categories; got 99" in examples["annotation entry"][1]
    assert examples["same picture"] == [f"{tmp_path / 'images' / '6.jpg'} is {tmp_path / 'images' / '5.jpg'}"]
    assert examples["other size"][0].endswith("3.jpg: 40x60; listed as 60x40")
    assert examples["contradiction"] == ["7.jpg: person"]
    assert examples["class without objects"] == ["never"]
    assert findings.problems.verdict() == "11 errors, 8 warnings, 3 remarks"


def test_what_is_left_of_a_broken_set_is_what_the_reader_takes(tmp_path: Path):
    path = broken_set(tmp_path)
    with pytest.raises(DataError):
        coco.read(path)
    truth, _ = open_leniently(path)
    kept = tmp_path / "kept.json"
    entries = [entry for record in truth.images for entry in truth.entries(record.id)]
    whole = json.loads(path.read_text())
    images = [image for image in whole["images"] if image["id"] in {record.id for record in truth.images}][:12]
    kept.write_text(json.dumps({"images": images, "annotations": entries, "categories": whole["categories"]}))
    assert len(coco.read(kept)) == len(truth) == 12


def test_several_processes_find_the_same(tmp_path: Path):
    truth, problems = open_leniently(broken_set(tmp_path))
    alone, together = check(truth, problems), check(truth, problems, workers=2)
    assert together.problems.counts == alone.problems.counts
    assert together.problems.examples == alone.problems.examples
    assert together.areas.tolist() == alone.areas.tolist()
    assert together.image_ids.tolist() == alone.image_ids.tolist()


@pytest.mark.slow
def test_answers_keep_the_order_of_items_whatever_the_number_of_processes():
    assert list(mapped(abs, range(-50, 0), workers=2)) == list(range(50, 0, -1))


def test_without_pictures_annotations_alone_are_looked_at(tmp_path: Path):
    findings = check(*open_leniently(broken_set(tmp_path)), pictures=False)
    of_pictures = {"missing picture", "unreadable picture", "other size", "rotated picture", "same picture"}
    assert dict(findings.problems.counts) == {kind: n for kind, n in EXPECTED.items() if kind not in of_pictures}
    assert findings.decoded == 0


def test_only_what_is_decoded_is_known_to_be_whole(tmp_path: Path):
    path = whole_set(tmp_path)
    file = tmp_path / "images" / "1.jpg"
    data = bytearray(file.read_bytes())
    data[:] = data[:400] + b"\xff\xd9"  # cut short, with the mark of an end
    file.write_bytes(data)
    truth, problems = open_leniently(path)
    for seed in range(20):
        findings = check(truth, problems, seed=seed, decode_all=False)
        assert findings.problems.counts["unreadable picture"] == 1, "few pictures are all decoded"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "cut short"),
        ("[]", "expected an object"),
        ('{"images": []}', "expected a list"),
        ('{"images": [], "annotations": [], "categories": 3}', "categories: expected a list"),
        ('{"images": [], "annotations": [], "categories": [{"id": [1], "name": "a"}]}', "id: expected a whole number"),
    ],
    ids=["cut", "a list", "no annotations", "no classes", "odd ids"],
)
def test_a_file_that_is_no_data_set_is_one_error(tmp_path: Path, content: str, message: str):
    path = tmp_path / "set.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        open_leniently(path)


@pytest.mark.parametrize("wrong", [[], [0], [4999], [0, 1, 2, 17, 4096, 4999], list(range(5000))], ids=len)
def test_each_wrong_entry_is_found_among_many(wrong: list[int]):
    refused_ones = set(wrong)

    def refuse(entries: Sequence[Any]) -> None:
        bad = [entry for entry in entries if entry in refused_ones]
        if bad:
            raise DataError(f"entry {bad[0]}")

    good, refused = parted(range(5000), refuse)
    assert good == [entry for entry in range(5000) if entry not in refused_ones]
    assert refused == [f"entry {entry}" for entry in wrong]


def test_objects_of_one_class_and_box_are_repeated_others_are_not():
    boxes = np.array([[0, 0, 5, 5], [0, 0, 5, 5], [0, 0, 5, 5.001], [0, 0, 5, 5], [0, 0, 5, 6]], dtype=np.float64)
    assert repeated(np.array([1, 1, 1, 2, 1]), boxes).tolist() == [False, True, True, False, False]
    assert repeated(np.zeros(0, np.int64), np.zeros((0, 4))).tolist() == []


def test_an_image_without_objects_is_measured(tmp_path: Path):
    objects, problems = measure(ImageRecord(1, "a.jpg", tmp_path / "a.jpg", 4, 6), [])
    assert (len(objects), problems) == (0, [])


def test_crowds_are_counted_apart(tmp_path: Path):
    crowd = {"id": 4, "image_id": 1, "bbox": [0, 0, 4, 4], "category_id": 1, "iscrowd": 1}
    other = crowd | {"id": 5, "iscrowd": 0, "bbox": [0, 0, 3, 4]}
    entries = [crowd, crowd | {"category_id": 2}, other]  # a region to ignore of every class has one id
    objects, _ = measure(ImageRecord(1, "a.jpg", tmp_path / "a.jpg", 4, 6), entries)
    assert (objects.areas.tolist(), objects.crowds) == ([12.0], 1)


def test_examples_are_few_and_counts_are_whole():
    problems = Problems()
    problems.add(Problem("no area", str(i)) for i in range(1000))
    assert problems.counts["no area"] == 1000
    assert len(problems.examples["no area"]) == MOST_EXAMPLES
    assert problems.found("error") == []
    assert problems.verdict() == "1,000 warnings"


def test_every_kind_has_something_to_do_about_it():
    assert set(EXPECTED) < set(KINDS)
    assert all(kind.advice.endswith(".") and kind.level in ("error", "warning", "remark") for kind in KINDS.values())


def test_two_sets_are_compared(tmp_path: Path):
    train, val = whole_set(tmp_path / "train"), whole_set(tmp_path / "val")  # the same pictures in both
    content = json.loads(val.read_text())
    content["categories"].append({"id": 7, "name": "bus"})
    val.write_text(json.dumps(content))
    content = json.loads(train.read_text())
    for one in content["annotations"]:
        one["category_id"] = 1
    train.write_text(json.dumps(content))
    picture(tmp_path / "val" / "images" / "0.jpg", 99)
    first, second = (check(*open_leniently(path)) for path in (train, val))
    found = list(compare(first, second))
    assert [problem.where for problem in found if problem.kind == "class only in val"] == ["bus"]
    assert [problem.where for problem in found if problem.kind == "unseen in train"] == ["person"]
    assert sum(problem.kind == "picture in both" for problem in found) == 5
    same = [problem.kind for problem in compare(first, first)]
    assert same == ["picture in both"] * 6
    first, second = (check(*open_leniently(path), pictures=False) for path in (train, val))
    unseen = [problem.kind for problem in compare(first, second)]
    assert unseen == ["class only in val", "unseen in train"], "files of pictures are not looked at"


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """WAD's label images of four frames: one whole, one cut short, one no PNG, one of another size than its picture."""
    folder, pictures = tmp_path / "labels", tmp_path / "images"
    folder.mkdir()
    pictures.mkdir()
    pixels = np.full((40, 60), 255, np.uint16)
    pixels[5:9, 5:9], pixels[20:30, 20:30] = 33000, 65535
    for name in "abd":
        Image.fromarray(pixels).save(folder / f"{name}_instanceIds.png")
        picture(pictures / f"{name}.jpg", ord(name))
    noise = np.random.default_rng(0).integers(0, 2**16, (40, 60)).astype(np.uint16)
    Image.fromarray(noise).save(folder / "b_instanceIds.png")
    cut = folder / "b_instanceIds.png"
    cut.write_bytes(cut.read_bytes()[:2000])
    (folder / "c_instanceIds.png").write_text("no picture")
    picture(pictures / "d.jpg", 4, (30, 40))
    return folder


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_wads_label_images_are_looked_at_as_well(labels: Path, workers: int):
    findings = check(*open_leniently(labels), workers=workers)
    found = {kind: findings.problems.counts[kind] for kind in findings.problems.found("error", "warning")}
    assert found == {"label image": 2, "other size": 1}
    assert findings.areas.tolist() == [16.0, 16.0]
    assert findings.crowds == 2


@pytest.mark.realdata
def test_lvis_has_masks_that_lie_elsewhere_than_their_boxes(real_data: Path):
    truth, problems = open_leniently(real_data / "lvis_val100" / "lvis_val_100.json")
    findings = check(truth, problems, pictures=False)
    assert findings.problems.counts["mask off box"] == 13
    assert not findings.problems.found("error")
