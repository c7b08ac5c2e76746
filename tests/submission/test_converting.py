"""From a run's folder, a results JSON and a CSV to every format, masks unchanged, wrong entries refused or left out."""

from pathlib import Path

import numpy as np
import orjson
import pytest
from pycocotools import mask as coco_mask
from typer.testing import CliRunner

from tis_ray.cli import app
from tis_ray.config import Ensemble, parse
from tis_ray.errors import ConfigError, DataError
from tis_ray.formats.bad_entries import BadEntries
from tis_ray.formats.image_list import ListedImage
from tis_ray.formats.wad_csv import read_csv
from tis_ray.instances import Categories, Instances
from tis_ray.masks import BoxMasks
from tis_ray.runs.folder import RunFolder, create
from tis_ray.runs.records import ImageOutcome
from tis_ray.submission.converting import convert

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools

SIZE_HW = (60, 80)
CLASSES = Categories((1, 2), ("person", "car"))
IMAGES = [ListedImage(i, f"a/{i}.jpg", Path(f"a/{i}.jpg"), SIZE_HW) for i in (4, 5, 6, 7)]


def outcome(image: ListedImage) -> ImageOutcome:
    """Six overlapping instances, none in image 6, and 7 failed."""
    if image.id == 7:
        return ImageOutcome(7, image.file_name, (0, 0), "failed", Instances.empty(), error="no image")
    count = 0 if image.id == 6 else 6
    rng = np.random.default_rng(image.id)
    corners = rng.uniform(0, 30, (count, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + rng.uniform(5, 28, (count, 2)).astype(np.float32)], axis=1)
    patches = BoxMasks(boxes, rng.random((count, 28, 28)).astype(np.float16))
    scores = np.round(rng.random(count), 6)
    return ImageOutcome(
        image.id, image.file_name, SIZE_HW, "ok", Instances.of(boxes, scores, rng.integers(0, 2, count), patches)
    )


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    ensemble = parse(Ensemble, {"members": {"a": {"checkpoint": "x", "scales": [64]}}}, (), source="test")
    run = create(
        tmp_path / "r.run",
        {},
        ensemble=ensemble,
        categories=CLASSES,
        images=IMAGES,
        images_per_shard=2,
        keeps_views=False,
    )
    for number in range(2):
        run.write(number, [outcome(image) for image in run.images_of(number)])
    return run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    images = [{"id": one.id, "file_name": one.file_name, "height": 60, "width": 80} for one in IMAGES]
    path = tmp_path / "data.json"
    path.write_bytes(orjson.dumps({"images": images, "categories": CLASSES.to_json(), "annotations": []}))
    return path


def masks_of_json(path: Path) -> dict[str, list[tuple[float, bytes]]]:
    """Scores and pixels by image name."""
    found: dict[str, list[tuple[float, bytes]]] = {}
    for one in orjson.loads(path.read_bytes()):
        pixels = coco_mask.decode(one["segmentation"]).tobytes()
        found.setdefault(str(one["image_id"]), []).append((one["score"], pixels))
    return found


def masks_of_csv(path: Path) -> dict[str, list[tuple[float, bytes]]]:
    rows = read_csv(path, size_hw=SIZE_HW)
    return {name: [(row.score, coco_mask.decode(row.rle).tobytes()) for row in own] for name, own in rows.items()}


def test_wad_and_coco_outputs_of_a_run_decode_to_the_same_masks(run: RunFolder, tmp_path: Path) -> None:
    summary = convert(run.path, tmp_path / "x.json", formats=["coco", "wad", "annotations"])
    assert (summary.num_images, summary.num_instances, [number for _, number in summary.others]) == (4, 12, [12, 12])
    assert [one.image_id for one in summary.failed] == [7]
    found = masks_of_json(tmp_path / "x.json")
    assert found == masks_of_csv(tmp_path / "x.csv")
    assert {name: len(own) for name, own in found.items()} == {"4": 6, "5": 6}


def test_disjoint_ones_are_those_without_what_better_ones_hold(run: RunFolder, tmp_path: Path) -> None:
    convert(run.path, tmp_path / "x.json", formats=["coco", "wad"], disjoint=True)
    apart = masks_of_csv(tmp_path / "x.csv")
    for name, whole in masks_of_json(tmp_path / "x.json").items():
        taken, expected = np.zeros(60 * 80, np.uint8), {}
        for score, mask in sorted(whole, reverse=True):
            pixels = np.frombuffer(mask, np.uint8) & (1 - taken)
            taken |= pixels
            if pixels.any():
                expected[score] = pixels.tobytes()
        assert dict(apart[name]) == expected


def test_files_are_taken_back_and_forth_without_a_change(run: RunFolder, data: Path, tmp_path: Path) -> None:
    convert(run.path, tmp_path / "x.json", formats=["coco", "wad"])
    convert(tmp_path / "x.json", tmp_path / "y.csv", formats=["wad"], data=data)
    assert (tmp_path / "y.csv").read_bytes() == (tmp_path / "x.csv").read_bytes()
    convert(tmp_path / "x.csv", tmp_path / "z.json", formats=["coco", "wad"], data=data)
    assert (tmp_path / "z.csv").read_bytes() == (tmp_path / "x.csv").read_bytes()
    assert masks_of_json(tmp_path / "z.json") == masks_of_json(tmp_path / "x.json")
    lines = orjson.loads((tmp_path / "x.json").read_bytes())
    (tmp_path / "mixed.json").write_bytes(orjson.dumps(lines[::2] + lines[1::2]))  # images in any order
    convert(tmp_path / "mixed.json", tmp_path / "again.json", formats=["coco"], data=data)
    again = masks_of_json(tmp_path / "again.json")
    assert {name: sorted(own) for name, own in again.items()} == {
        name: sorted(own) for name, own in masks_of_json(tmp_path / "x.json").items()
    }
    assert (tmp_path / "x.failed.json").exists()  # what a run noted stays where a file is converted


def test_images_that_the_run_has_yet_to_look_at_are_told(run: RunFolder, tmp_path: Path) -> None:
    arguments = ["convert", str(run.path), "--out", str(tmp_path / "out.json"), "--format", "coco"]
    assert "yet" not in CliRunner().invoke(app, arguments).output
    run.discard(1)
    assert "2 images are left out: the run has not looked at them yet" in CliRunner().invoke(app, arguments).output


def test_category_ids_are_those_of_the_data(run: RunFolder, tmp_path: Path) -> None:
    other = {"images": [], "categories": [{"id": 30, "name": "car"}], "annotations": []}
    (tmp_path / "other.json").write_bytes(orjson.dumps(other))
    summary = convert(run.path, tmp_path / "x.json", formats=["lvis"], data=tmp_path / "other.json")
    assert {one["category_id"] for one in orjson.loads((tmp_path / "x.json").read_bytes())} == {30}
    assert summary.num_instances + summary.num_dropped == 12


def test_wrong_lines_and_results_are_refused_or_left_out(run: RunFolder, data: Path, tmp_path: Path) -> None:
    convert(run.path, tmp_path / "x.json", formats=["coco", "wad"])
    csv = (tmp_path / "x.csv").read_text() + "9,33,1,0.5,0 1|\n4,33,1,nan,0 1|\n4,99,1,0.5,0 1|\n4,33\n"
    (tmp_path / "bad.csv").write_text(csv)
    with pytest.raises(DataError, match=r"bad\.csv: 4 lines are wrong \(1 by ImageId, 1 by Confidence, .*line 14: Im"):
        convert(tmp_path / "bad.csv", tmp_path / "y.csv", formats=["wad"], data=data)
    assert not (tmp_path / "y.csv").exists()
    bad = BadEntries(skip=True)
    convert(tmp_path / "bad.csv", tmp_path / "y.csv", formats=["wad"], data=data, bad=bad)
    assert (bad.total, (tmp_path / "y.csv").read_bytes()) == (4, (tmp_path / "x.csv").read_bytes())
    results = [*orjson.loads((tmp_path / "x.json").read_bytes()), {"image_id": 99}]
    (tmp_path / "bad.json").write_bytes(orjson.dumps(results))
    arguments = ["convert", str(tmp_path / "bad.json"), "--data", str(data), "--out", str(tmp_path / "y.json")]
    told = CliRunner().invoke(app, [*arguments, "--format", "coco", "--skip-bad"])
    assert told.exit_code == 0, told.output
    assert "bad.json: result 12: image_id: expected one of the data set's; got 99" in told.output
    assert masks_of_json(tmp_path / "y.json") == masks_of_json(tmp_path / "x.json")


def test_what_does_not_fit_is_refused_before_anything_is_written(run: RunFolder, data: Path, tmp_path: Path) -> None:
    for source, out, options, message in (
        (tmp_path / "x.csv", "y.json", {}, r"--data: expected a COCO JSON .*x\.csv is of; got none"),
        (tmp_path / "x.txt", "y.json", {"data": data}, r"SOURCE: expected the folder of a run, .*; got .*x\.txt"),
        (run.path, "r.run/y.json", {}, r"--out: expected another file than those that are read; got .*y\.json"),
        (data, "data.json", {"data": data}, "--out: expected another file"),
        (run.path, "y.json", {"formats": ["wat"]}, "--format: expected one of annotations, coco, lvis, wad; got 'wat'"),
    ):
        with pytest.raises(ConfigError, match=message):
            convert(source, tmp_path / out, **{"formats": ["coco"], **options})
    with pytest.raises(DataError, match="expected the folder of a batch run"):
        convert(tmp_path, tmp_path.parent / "y.json", formats=["coco"])
