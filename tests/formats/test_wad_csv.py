"""Submissions: what is written is what was found, pixel by pixel, and what is read is judged line by line."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tis_ray.errors import ConfigError, DataError, InputError
from tis_ray.formats.wad_classes import EVALUATED, WITH_RIDER
from tis_ray.formats.wad_csv import HEADER, WadWriter, read_csv
from tis_ray.instances import Categories, Instances
from tis_ray.masks import BoxMasks, CropMasks

SIZE_HW = (40, 60)
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools


def found(boxes, scores, labels, *, seed: int = 0, filled: bool = False) -> Instances:
    boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    patches = np.random.default_rng(seed).random((len(boxes), 28, 28))
    patches = np.maximum(patches, 0.6) if filled else patches
    return Instances.of(boxes, scores, labels, BoxMasks(boxes, patches.astype(np.float16)))


def write(path: Path, instances: Instances, *, categories=EVALUATED, image="frame.jpg", disjoint=False) -> WadWriter:
    with WadWriter(path, disjoint=disjoint) as writer:
        writer.write(instances, image=image, categories=categories, size_hw=SIZE_HW)
    return writer


def random_instances(count: int, seed: int) -> Instances:
    """Boxes of all sizes, many beyond the borders, some outside the image altogether, random masks."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(-20, 70, (count, 2))
    boxes = np.concatenate([corner, corner + rng.exponential(15, (count, 2))], axis=1)
    return found(boxes, rng.random(count), rng.integers(0, 7, count), seed=seed)


# ------------------------------------------------------------------------------------------- Writing


def test_a_line_counts_pixels_row_by_row_from_0(tmp_path):
    """Pasted as torchvision does, this patch covers columns 1 to 5 of rows 0 to 3."""
    write(tmp_path / "s.csv", found([[2, 1, 5, 3]], [0.25], [3], filled=True), image="test/56db.jpg")
    assert (tmp_path / "s.csv").read_text() == f"{HEADER}\n56db,36,20,0.250000,1 5|61 5|121 5|181 5|\n"


def test_every_mask_comes_back_as_the_coco_rle_of_the_same_run(tmp_path):
    instances = random_instances(300, seed=1)
    boxes = [[-20, -20, 80, 60], [-20, 30, 80, 70], [50, -20, 90, 60], [0, 0, 1, 1]]
    edges = found(boxes, [0.5] * 4, [0, 1, 2, 3], filled=True)  # the whole image, lowest rows, last columns, a corner
    everything = Instances.concatenate([instances, edges])
    rles = everything.masks.to_rle(*SIZE_HW)
    areas = np.array([coco_mask.area(rle) for rle in rles])
    writer = write(tmp_path / "s.csv", everything)
    rows = read_csv(tmp_path / "s.csv", size_hw=SIZE_HW)["frame"]
    kept = np.flatnonzero(areas)
    assert 50 < len(kept) < len(everything)
    assert areas[-4] == 2400
    extents = [coco_mask.toBbox(rle).tolist() for rle in rles[-3:]]
    assert [extents[0][2], extents[0][1] + extents[0][3], extents[1][0] + extents[1][2]] == [60, 40, 60]
    assert extents[2][:2] == [0, 0]
    assert (writer.num_rows, writer.num_dropped) == (len(kept), len(everything) - len(kept))
    assert [row.rle for row in rows] == [rles[i] for i in kept]
    assert [row.label_id for row in rows] == [EVALUATED.ids[everything.labels[i]] for i in kept]
    np.testing.assert_allclose([row.score for row in rows], everything.scores[kept], atol=5e-7)


def test_riders_and_classes_that_are_not_evaluated_are_left_out(tmp_path):
    labels = list(range(len(WITH_RIDER)))
    instances = found([[2, 1, 9, 9]] * 8, [0.5] * 8, labels, filled=True)
    writer = write(tmp_path / "s.csv", instances, categories=WITH_RIDER)
    assert [row.label_id for row in read_csv(tmp_path / "s.csv", size_hw=SIZE_HW)["frame"]] == list(EVALUATED.ids)
    assert (writer.num_rows, writer.num_dropped) == (7, 1)


def test_classes_are_joined_by_name(tmp_path):
    table = Categories((1, 2, 3, 4), ("dog", "bus", "motorcycle", "person"))  # COCO's word for motorbicycle
    write(tmp_path / "s.csv", found([[2, 1, 9, 9]] * 4, [0.5] * 4, range(4), filled=True), categories=table)
    assert [row.label_id for row in read_csv(tmp_path / "s.csv", size_hw=SIZE_HW)["frame"]] == [39, 34, 36]
    with pytest.raises(ConfigError, match=r"categories: expected some of WAD's \(car, .*tricycle\); got dog"):
        write(tmp_path / "t.csv", found([], [], []), categories=Categories((1,), ("dog",)))


def test_disjoint_masks_leave_each_pixel_to_the_highest_score(tmp_path):
    instances = random_instances(60, seed=2)
    rles = instances.masks.to_rle(*SIZE_HW)
    full = np.moveaxis(coco_mask.decode(rles), -1, 0).astype(bool)
    owner = np.full(SIZE_HW, -1)
    for i in np.argsort(instances.scores):  # the highest last
        owner[full[i]] = i
    write(tmp_path / "s.csv", instances, disjoint=True)
    rows = read_csv(tmp_path / "s.csv", size_hw=SIZE_HW)["frame"]
    expected = [i for i in range(len(instances)) if (owner == i).any()]
    assert len(rows) == len(expected) < np.count_nonzero(coco_mask.area(rles))
    for row, i in zip(rows, expected, strict=True):
        np.testing.assert_array_equal(coco_mask.decode(row.rle), owner == i)


def test_confidence_is_the_score_of_the_mask_and_by_it_pixels_are_shared_out(tmp_path):
    instances = found([[2, 1, 9, 9]] * 2, [0.9, 0.5], [3, 4], filled=True)
    masks = replace(instances.masks, quality=np.float32([0.25, 1]))
    write(tmp_path / "s.csv", replace(instances, masks=masks))
    rows = read_csv(tmp_path / "s.csv", size_hw=SIZE_HW)["frame"]
    assert [(row.label_id, row.score) for row in rows] == [(36, 0.225), (38, 0.5)]
    write(tmp_path / "d.csv", replace(instances, masks=masks), disjoint=True)
    assert [row.label_id for row in read_csv(tmp_path / "d.csv", size_hw=SIZE_HW)["frame"]] == [38]


def test_the_first_of_equal_scores_keeps_the_pixels_and_an_empty_rest_is_dropped(tmp_path):
    instances = found([[2, 1, 9, 9]] * 2, [0.5, 0.5], [4, 5], filled=True)
    writer = write(tmp_path / "s.csv", instances, disjoint=True)
    assert [row.label_id for row in read_csv(tmp_path / "s.csv", size_hw=SIZE_HW)["frame"]] == [38]
    assert writer.num_dropped == 1


def test_images_follow_each_other_and_those_without_instances_have_no_line(tmp_path):
    with WadWriter(tmp_path / "s.csv", disjoint=True) as writer:
        for name in ("b.jpg", "none.jpg", "a.jpg"):
            boxes = [] if name == "none.jpg" else [[2, 1, 9, 9]]
            instances = found(boxes, [0.5] * len(boxes), [0] * len(boxes), filled=True)
            writer.write(instances, image=name, categories=EVALUATED, size_hw=SIZE_HW)
        writer.write(Instances.empty(), image="boxes.jpg", categories=EVALUATED, size_hw=SIZE_HW)
    rows = read_csv(tmp_path / "s.csv", size_hw=SIZE_HW)
    assert list(rows) == ["b", "a"]
    assert rows["a"] == rows["b"]


def test_nothing_is_left_of_a_file_that_failed(tmp_path):
    (tmp_path / "s.csv").write_text("from before")

    def fail() -> None:
        with WadWriter(tmp_path / "s.csv") as writer:
            writer.write(found([[2, 1, 9, 9]], [0.5], [0]), image="a.jpg", categories=EVALUATED, size_hw=SIZE_HW)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["s.csv"]
    assert (tmp_path / "s.csv").read_text() == "from before"
    with pytest.raises(DataError, match="cannot be written"), WadWriter(tmp_path / "no" / "s.csv"):
        pass


def test_instances_without_masks_and_names_that_break_the_file_are_refused(tmp_path):
    boxes_only = found([[2, 1, 9, 9]], [0.5], [0]).without_masks()
    with pytest.raises(InputError, match=r"a\.jpg: masks: expected one for each of 1 instances; got none"):
        write(tmp_path / "s.csv", boxes_only, image="a.jpg")
    for name in ("a,b.jpg", 'a"b.jpg', "a\nb.jpg", ".jpg", "folder/"):
        with pytest.raises(InputError, match="image: expected a file name without commas"):
            write(tmp_path / "s.csv", Instances.empty(), image=name)


# ------------------------------------------------------------------------------------------- Reading


def line(**fields: str) -> str:
    given = {"image": "x", "label": "33", "count": "5", "score": "0.5", "pixels": "0 2|70 3|"} | fields
    return ",".join(given.values())


@pytest.mark.parametrize("pixels", ["0 2|70 3|", "0 2|70 3"])
def test_a_bar_at_the_end_may_be_missing(tmp_path, pixels):
    (tmp_path / "s.csv").write_text(f"{HEADER}\r\n{line(pixels=pixels)}\r\n\r\n")
    ((row,),) = read_csv(tmp_path / "s.csv", size_hw=SIZE_HW).values()
    mask = np.zeros(SIZE_HW, np.uint8)
    mask[0, :2] = mask[1, 10:13] = 1
    np.testing.assert_array_equal(coco_mask.decode(row.rle), mask)
    crops = CropMasks.from_rle([row.rle])
    assert crops.areas().tolist() == [5]


def test_a_file_with_a_header_alone_has_no_images(tmp_path):
    with WadWriter(tmp_path / "s.csv"):
        pass
    assert read_csv(tmp_path / "s.csv", size_hw=SIZE_HW) == {}


def test_a_mask_without_pixels_may_be_listed(tmp_path):
    (tmp_path / "s.csv").write_text(f"{HEADER}\n{line(pixels='', count='0')}\n")
    ((row,),) = read_csv(tmp_path / "s.csv", size_hw=SIZE_HW).values()
    assert coco_mask.area(row.rle) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,33,5,0.5", "expected 5 fields .*; got 4"),
        (line(image=""), "ImageId: expected a name; got ''"),
        (line(label="32"), "LabelId: expected one of 33, .*40; got '32'"),
        (line(label="car"), "LabelId: expected one of .*; got 'car'"),
        (line(score="1.5"), "Confidence: expected a number in 0..1; got '1.5'"),
        (line(score="nan"), "Confidence: expected a number in 0..1; got 'nan'"),
        (line(score="high"), "Confidence: expected a number in 0..1; got 'high'"),
        (line(count="6"), "PixelCount: expected 5, the sum of the run lengths; got '6'"),
        (line(pixels="0 2||70 3|"), "EncodedPixels: expected 'start length.*; got ''"),
        (line(pixels="0 2 70 3"), "EncodedPixels: expected 'start length.*; got '0 2 70 3'"),
        (line(pixels="0 2|70 -3"), "EncodedPixels: expected 'start length.*; got '70 -3'"),
        (line(pixels="0 2|70 ³"), "EncodedPixels: expected 'start length"),
        (line(pixels="|"), "EncodedPixels: expected 'start length"),
        (line(pixels="0 5|3 1|"), "EncodedPixels: expected runs that rise and do not overlap"),
        (line(pixels="2399 2|"), "EncodedPixels: expected runs within the 2400 pixels of 60x40"),
        (line(pixels=f"{10**30} 2|"), "EncodedPixels: expected .*beyond 64 bits"),
    ],
)
def test_what_is_wrong_is_named_with_its_line_and_field(tmp_path, text, message):
    (tmp_path / "s.csv").write_text(f"{HEADER}\n{line()}\n{text}\n")
    with pytest.raises(DataError, match=rf"s\.csv: line 3: {message}") as caught:
        read_csv(tmp_path / "s.csv", size_hw=SIZE_HW)
    assert "\n" not in str(caught.value)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_csv(tmp_path / "none.csv", size_hw=SIZE_HW)
    (tmp_path / "s.csv").write_text("ImageId,Label\n")
    with pytest.raises(DataError, match=r"line 1: expected ImageId,LabelId,.*; got 'ImageId,Label'"):
        read_csv(tmp_path / "s.csv", size_hw=SIZE_HW)
    (tmp_path / "s.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        read_csv(tmp_path / "s.csv", size_hw=SIZE_HW)
