"""`tis-ray anchors` on scenes and label images, as a user calls it, and the menu's anchors as they are laid."""

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torchvision.models.detection.image_list import ImageList

from tis_ray import menu
from tis_ray.cli import main
from tis_ray.cli.anchors import layout_of
from tis_ray.data.anchor_sizes import cluster_sizes
from tis_ray.data.objects import in_network, read_objects
from tis_ray.data.scenes import write_scenes
from tis_ray.evaluation.anchor_recall import best_ious
from tis_ray.formats import coco
from tis_ray.menu import check_options, pick
from tis_ray.ops.overlaps import pairwise_iou

ANCHORS = "tis_ray.models.anchors"
STRIDES = (4, 8, 16, 32, 64)
COARSEST_COUNTS = {"sizes": ((999,), (999,), (999,), (999,), (24,))}  # the others overlap nothing as well
REAL = pytest.mark.skipif("TIS_RAY_DATA" not in os.environ, reason="TIS_RAY_DATA is not set")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("anchors")
    write_scenes(folder, num_images=4, size_wh=(192, 144), seed=0, processes=1)
    return folder


@pytest.fixture
def call(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The command in `folder`; gives exit code, stdout and stderr."""

    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["tis-ray", "anchors", *arguments])
        with pytest.raises(SystemExit) as exit_:
            main()
        told = capsys.readouterr()
        return int(str(exit_.value.code)), told.out, told.err

    return call


def pasted(out: str) -> list[float]:
    """The sizes of the line that goes into a recipe, accepted by the part that it names."""
    (line,) = re.findall(r"^anchors: .*$", out, re.MULTILINE)
    (options,) = yaml.safe_load(line)["anchors"].values()
    check_options(pick(ANCHORS, "build", "cluster", key="test"), options, key="test")
    return options["sizes"]


def test_fits_sizes_and_shows_the_recall_of_every_set(folder: Path, call) -> None:
    code, out, err = call(
        "instances_train.json", "--scale", "144", "--scale", "192", "--max-long-edge", "512", "--plot", "plots/r.png"
    )
    assert code == 0, err
    truth = coco.read(folder / "instances_train.json")
    seen = in_network(read_objects(truth, truth.images), scales=(144, 192), max_long_edge=512)
    np.testing.assert_allclose(pasted(out), cluster_sizes(seen.sides_wh, count=5).sizes, atol=0.005)
    assert f"{len(seen) // 2} objects of 3 images, in network pixels at 2 scales: shorter edge 144 or 192" in out
    assert all(name in out for name in ["fitted", *menu.choices(ANCHORS)])
    assert re.search(rf"^ *all +{len(seen)} ", out, re.MULTILINE)
    assert max(len(line) for line in out.splitlines() if not line.startswith(f"{len(seen) // 2} ")) <= 120
    with Image.open(folder / "plots/r.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 10


def test_figures_are_whole_in_a_narrow_terminal(folder: Path, call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    code, out, err = call("instances_train.json")
    assert code == 0, err
    assert "\u2026" not in out
    assert all(name in out for name in menu.choices(ANCHORS))


def test_without_a_scale_objects_have_their_own_size(folder: Path, call) -> None:
    code, out, err = call("instances_train.json", "--levels", "3", "--space", "log")
    assert code == 0, err
    truth = coco.read(folder / "instances_train.json")
    objects = read_objects(truth, truth.images)
    np.testing.assert_allclose(
        pasted(out), cluster_sizes(objects.sides_wh, count=3, space="log").sizes, atol=0.005
    )  # fmt: skip
    assert "in the images' own pixels" in out
    assert f"smallest {objects.scales.min():.4g} px" in out


def test_the_longer_edge_is_bounded_as_in_recipes_unless_told(call) -> None:
    assert "longer edge at most 1333" in call("instances_train.json", "--scale", "144")[1]
    assert "longer edge as it comes" in call("instances_train.json", "--scale", "144", "--max-long-edge", "0")[1]


def test_a_part_of_the_images_is_spread_over_all(call) -> None:
    assert re.search(r"^\d+ objects of 2 of 3 images, ", call("instances_train.json", "--max-images", "2")[1])
    assert re.search(r"^\d+ objects of 1 of 3 images, ", call("instances_train.json", "--max-images", "1")[1])


def test_label_images_need_no_pictures(folder: Path, call) -> None:
    labels = np.full((64, 128), 255, dtype=np.uint16)
    for i, side in enumerate((3, 5, 8, 12, 20)):
        labels[2 : 2 + side, 22 * i : 22 * i + side] = 33000 + i
    (folder / "labels").mkdir()
    Image.fromarray(labels).save(folder / "labels/f_instanceIds.png")
    code, out, err = call("labels")
    assert code == 0, err
    assert pasted(out) == [3, 5, 8, 12, 20]
    assert "5 objects of 1 images" in out


MISTAKES = {
    "no file": (["none.json"], "none.json: cannot be read (No such file or directory)"),
    "no label images": (["images"], "expected label images *_instanceIds.png"),
    "no objects": (["bare.json"], "bare.json: expected at least one object with an area; found none"),
    "no images": (["empty.json"], "empty.json: expected at least one object with an area; found none"),
    "too many levels": (["few.json", "--levels", "4"], "levels: expected 1 to 3, as many as there are different sizes"),
    "unknown space": (["none.json", "--space", "cubic"], "space: expected one of linear, log, iou; got 'cubic'"),
    "edge of no scale": (["few.json", "--max-long-edge", "9"], "--max-long-edge: expected --scale beside it; got 9"),
    "no picture": (["few.json", "--plot", "recall.txt"], "--plot: expected a file of"),
    "a folder for a picture": (["few.json", "--plot", "."], "--plot: expected a file"),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_told_in_one_line(arguments: list[str], message: str, folder: Path, call) -> None:
    content = json.loads((folder / "instances_train.json").read_text())
    boxes = [(0, 0, 9, 9), (1, 1, 9, 9), (1, 1, 10, 10), (3, 3, 30, 30)]
    plain = {"image_id": content["images"][0]["id"], "category_id": content["categories"][0]["id"]}
    few = [{"id": i, "bbox": box, **plain} for i, box in enumerate(boxes)]
    (folder / "empty.json").write_text(json.dumps({**content, "images": [], "annotations": []}))
    for name, annotations in {"bare": [], "few": few}.items():
        (folder / f"{name}.json").write_text(json.dumps({**content, "annotations": annotations}))
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("size_hw", [(64, 64), (96, 160), (224, 288)])
@pytest.mark.parametrize(
    ("name", "options"),
    [*((name, {}) for name in menu.choices(ANCHORS)), ("exact", COARSEST_COUNTS), ("torchvision", COARSEST_COUNTS)],
)
def test_best_anchors_are_those_of_all_that_a_generator_lays(name: str, options: dict, size_hw: tuple) -> None:
    """Of odd multiples of 32 px torchvision takes the coarsest stride for less than 64."""
    anchors = pick(ANCHORS, "build", name, key="test")(STRIDES, **options)
    maps = [torch.zeros(1, 1, *(-(-side // stride) for side in size_hw)) for stride in STRIDES]
    (laid,) = anchors(ImageList(torch.zeros(1, 3, *size_hw), [size_hw]), maps)
    rng = np.random.default_rng(0)
    sides = np.minimum(rng.lognormal(3, 1.2, (100, 2)) + 1, size_hw[::-1])
    corners = rng.uniform(size=(100, 2)) * (size_hw[::-1] - sides)
    boxes = np.concatenate([corners, corners + sides], axis=1)
    found = best_ious(boxes, np.tile(size_hw, (100, 1)), layout_of(anchors, STRIDES))
    expected = pairwise_iou(boxes.astype(np.float32), laid.numpy()).max(axis=1)
    np.testing.assert_allclose(found, expected, atol=2e-5)


@REAL
@pytest.mark.realdata
def test_wad_frames_have_mostly_small_objects_and_pyramid_anchors_reach_them(call) -> None:
    labels = f"{os.environ['TIS_RAY_DATA']}/wad/labels"
    code, out, err = call(labels, "--scale", "1500", "--scale", "1800", "--max-long-edge", "3384")
    assert code == 0, err
    assert out.startswith("158 objects of 16 images, ")
    assert "F(32) = 66.8%" in out
    np.testing.assert_allclose(pasted(out), [12.7, 33.97, 70.32, 161.51, 491.16], atol=0.02)
    (row,) = re.findall(r"^ *all .*$", out, re.MULTILINE)
    recalls = dict(zip(["fitted", *menu.choices(ANCHORS)], map(float, row.split()[2::2]), strict=True))
    assert max(recalls, key=lambda name: recalls[name]) == "pyramid"
