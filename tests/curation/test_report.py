"""The page of a data set and the commands: their figures, their pictures and their exit codes."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.curation.broken import broken_set, whole_set
from tis_ray.cli import app
from tis_ray.curation.check import check
from tis_ray.curation.opening import open_leniently
from tis_ray.curation.report import page_of, shares
from tis_ray.curation.samples import smallest_objects, whole_images
from tis_ray.overlay import colour_of
from tis_ray.reports.page import render

CELL = re.compile(r"<t[hd][^>]*>(.*?)</t[hd]>")


def rows_of(html: str) -> list[list[str]]:
    return [CELL.findall(row) for row in re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)]


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of the broken set, as the command writes it."""
    folder = tmp_path_factory.mktemp("broken")
    out = folder / "pages" / "report.html"
    path = broken_set(folder / "set")
    done = CliRunner().invoke(app, ["data", "check", str(path), "--out", str(out), "--pictures", "3"])
    assert done.exit_code == 2, "training would refuse it"
    assert "12 images, 28 objects, 3 classes" in done.stdout
    return out.read_text()


def test_the_page_lists_every_problem_with_its_number(checked: str):
    rows = rows_of(checked)
    assert ["annotations refused by training", "4", "error", "Mend or remove these annotations."] in rows
    assert [row[:3] for row in rows if row[0] == "pictures missing"] == [["pictures missing", "1", "error"]]
    assert ["7.jpg: person"] in rows, "an example"


def test_the_page_counts_classes(checked: str):
    rows = rows_of(checked)
    assert ["never", "0", "0", "-", "-"] in rows
    assert ["person", "12", "11", "24.49", "100%"] in rows


def test_the_page_shows_pictures_and_plots(checked: str):
    assert checked.count("<svg") == 5
    assert checked.count("<img") == 5, "three images, and two small objects: the next four cannot be read"
    assert "enlarged" in checked


def test_shares_of_sizes_are_those_of_the_paper():
    scales = np.sqrt(np.array([16.0, 64.0, 1024.0, 4096.0, 10000.0]))
    assert shares(scales) == {8: 0.4, 32: 0.6, 96: 0.8}


def test_the_smallest_object_is_in_the_middle_and_enlarged(tmp_path: Path):
    path = whole_set(tmp_path, 1)
    findings = check(*open_leniently(path))
    (picture,) = smallest_objects(findings, 5)
    assert picture.caption == "car of 10.0 px, in 50 x 40 px of 0.jpg"
    pixels = np.asarray(picture.image)
    assert pixels.shape[1] == 400, "50 px, 8 times"
    contour = (pixels[:320] == colour_of("car", ["car", "person"])).all(axis=2)
    rows, columns = np.flatnonzero(contour.any(axis=1)), np.flatnonzero(contour.any(axis=0))
    assert abs(rows[0] - 80) <= 8, "10 px of the window's 40, from its edge at 0"
    assert abs(columns[0] - 80) <= 8


def test_pictures_of_whole_images_are_drawn_by_the_seed(tmp_path: Path):
    findings = check(*open_leniently(whole_set(tmp_path, 6)))
    names = [[one.caption for one in whole_images(findings, 3, seed=seed)] for seed in (0, 0, 1)]
    assert names[0] == names[1] != names[2]
    assert [len(one) for one in names] == [3, 3, 3]


def test_a_set_without_anything_has_a_page(tmp_path: Path):
    path = tmp_path / "set.json"
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    assert "There are no images." in render(page_of(check(*open_leniently(path))))


def test_groups_of_frequency_are_counted(tmp_path: Path):
    path = whole_set(tmp_path)
    content = json.loads(path.read_text())
    content["categories"] = [{"id": i, "name": f"c{i}", "frequency": of} for i, of in ((1, "f"), (2, "r"), (3, "r"))]
    path.write_text(json.dumps(content))
    html = render(page_of(check(*open_leniently(path))))
    assert ["rare (1 to 10)", "2", "1", "6"] in rows_of(html)


@pytest.mark.parametrize(("options", "code"), [([], 0), (["--strict"], 2), (["--annotations-only", "--strict"], 0)])
def test_warnings_end_with_0_and_with_2_when_asked(tmp_path: Path, options: list[str], code: int):
    path = whole_set(tmp_path)
    (tmp_path / "images" / "1.jpg").write_bytes((tmp_path / "images" / "0.jpg").read_bytes())
    done = CliRunner().invoke(app, ["data", "check", str(path), *options])
    assert done.exit_code == code
    assert ("copies" in done.stdout) == ("--annotations-only" not in options)


def test_the_command_compares_two_sets(tmp_path: Path):
    train, val = whole_set(tmp_path / "train"), whole_set(tmp_path / "val")
    done = CliRunner().invoke(app, ["data", "check", str(train), "--val", str(val)])
    assert done.exit_code == 0
    assert re.search(r"warning.*6.*pictures both in", done.stdout)
    done = CliRunner().invoke(app, ["data", "check", str(train), "--val", str(val), "--annotations-only"])
    assert "pictures both in" not in done.stdout
    done = CliRunner().invoke(app, ["data", "check", str(train), "--frames", "a.txt"])
    assert "--frames: expected a folder of WAD label images" in str(done.exception)


def test_the_command_splits_and_says_how(tmp_path: Path):
    path = whole_set(tmp_path)
    arguments = ["data", "split", str(path), "--out", str(tmp_path / "parts"), "--by", "image", "--val", "0.5"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0
    assert len(json.loads((tmp_path / "parts" / "val.json").read_text())["images"]) == 3
    assert re.search(r"train.*3.*50\.0%.*6.*2", done.stdout)
    again = CliRunner().invoke(app, [*arguments, "--frames", "a.txt"])
    assert "--frames: expected a folder of WAD label images" in str(again.exception)


@pytest.mark.realdata
def test_the_paper_counts_wads_small_objects(real_data: Path):
    truth, problems = open_leniently(real_data / "wad" / "instances.json", real_data / "wad")
    found = shares(check(truth, problems, pictures=False).scales)
    assert found[32] == pytest.approx(0.6, abs=0.06), "of the whole training set, in Fig. 1"


def test_a_page_of_wads_label_images_shows_regions_to_ignore(tmp_path: Path):
    for folder in ("labels", "images"):
        (tmp_path / folder).mkdir()
    pixels = np.full((80, 90), 255, np.uint16)
    pixels[5:9, 5:9], pixels[20:30, 20:30] = 33000, 65535
    Image.fromarray(pixels).save(tmp_path / "labels" / "a_instanceIds.png")
    Image.new("RGB", (90, 80)).save(tmp_path / "images" / "a.jpg")
    findings = check(*open_leniently(tmp_path / "labels"))
    html = render(page_of(findings, whole=whole_images(findings, 1), smallest=smallest_objects(findings, 1)))
    assert "1 objects of 7 classes and 1 regions to ignore" in html
    assert "car of 4.0 px" in html
