"""Ground truth opened from a path alone: what kind it is follows from what lies there."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tis_ray.errors import ConfigError
from tis_ray.formats.opening import open_path


def test_a_file_is_coco_json(tmp_path: Path):
    content = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 30, "height": 20}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0}],
        "categories": [{"id": 3, "name": "car"}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(content))
    truth = open_path(tmp_path / "truth.json")
    assert [record.id for record in truth.images] == [7]
    assert truth.annotations(7).boxes.tolist() == [[1, 2, 4, 6]]


def test_a_folder_is_wad_labels_whose_frames_are_numbered_by_name(tmp_path: Path):
    for folder in ("labels", "images"):
        (tmp_path / folder).mkdir()
    for name in ("b", "a"):
        labels = np.full((20, 30), 255, np.uint16)
        labels[2:5, 3:9] = 33000
        Image.fromarray(labels).save(tmp_path / "labels" / f"{name}_instanceIds.png")
        Image.new("RGB", (30, 20)).save(tmp_path / "images" / f"{name}.jpg")
    truth = open_path(tmp_path / "labels", tmp_path / "images")
    assert [(record.id, record.file_name) for record in truth.images] == [(1, "a.jpg"), (2, "b.jpg")]
    assert truth.annotations(2).boxes.tolist() == [[3, 2, 9, 5]]


def test_a_folder_of_labels_needs_its_pictures(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"--image-folder: expected the folder of the pictures .* got none"):
        open_path(tmp_path)
