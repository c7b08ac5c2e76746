"""Comparisons: who is better, whether that is chance, and where, in words, figures and pictures."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.explaining.streets import found_in, write_street
from tis_ray.cli import app
from tis_ray.explaining.comparing import compare, verdict
from tis_ray.explaining.comparison_page import write_comparison
from tis_ray.explaining.predictions import read_predictions
from tis_ray.formats import coco


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared")
    street = write_street(folder, num_images=24)
    for name, results in {
        "good": found_in(street, missed=0.05),
        "bad": found_in(street, off_px=3, missed=0.5, seed=1),
        "none": [],
        "boxes": [{key: value for key, value in one.items() if key != "segmentation"} for one in found_in(street)],
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(results))
    return folder


def compared(folder: Path, a: str, b: str, samples: int = 100):
    dataset = coco.read(folder / "instances.json")
    both = [read_predictions(folder / f"{name}.json", dataset) for name in (a, b)]
    return compare(dataset, *both, num_samples=samples)


def test_who_is_much_better_is_so_beyond_chance_either_way(folder: Path) -> None:
    assert "good is better beyond chance" in verdict(compared(folder, "bad", "good"))
    assert "good is better beyond chance" in verdict(compared(folder, "good", "bad"))


def test_equal_results_do_not_differ(folder: Path) -> None:
    same = compared(folder, "good", "good")
    assert "They do not differ." in verdict(same)
    assert same.names == ("good (first)", "good (second)")
    assert not same.changes().any()


def test_masks_are_compared_where_both_have_some(folder: Path) -> None:
    assert list(compared(folder, "good", "bad", 1).by_kind) == ["bbox", "segm"]
    assert list(compared(folder, "good", "boxes", 1).by_kind) == ["bbox"]


def test_an_image_that_got_better_has_more_quality(folder: Path) -> None:
    one = compared(folder, "bad", "good", 1)
    first, second = one.a.images.quality, one.b.images.quality
    assert one.changes() == pytest.approx(second - first)
    assert one.changes().mean() > 0.1


def test_the_command_prints_the_differences_and_writes_the_page(folder: Path, tmp_path: Path) -> None:
    arguments = [str(folder / "bad.json"), str(folder / "good.json"), "--ground-truth", str(folder / "instances.json")]
    arguments += [
        "--bootstrap",
        "50",
        "--report",
        str(tmp_path / "report"),
        "--pictures",
        "1",
        "--out",
        str(tmp_path / "x.json"),
    ]
    printed = CliRunner().invoke(app, ["compare", *arguments])
    assert printed.exit_code == 0, printed.output
    assert "good is better beyond chance" in " ".join(printed.output.split())
    figures = json.loads((tmp_path / "x.json").read_text())
    assert figures == json.loads((tmp_path / "report" / "figures.json").read_text())
    html = (tmp_path / "report" / "report.html").read_text()
    assert f"{100 * figures['segm']['scores']['AP']['difference']:+.1f}" in html
    assert "<h1>good against bad</h1>" in html
    assert html.count("<img") >= 3, "what is there, and what either found"


def test_nothing_found_by_either_is_a_page_too(folder: Path, tmp_path: Path) -> None:
    page = write_comparison(tmp_path, compared(folder, "none", "none", 5))
    assert "They do not differ." in page.read_text()
    assert "NaN" not in (tmp_path / "figures.json").read_text()


def test_a_report_folder_that_is_a_file_is_refused_before_anything_is_read(folder: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("")
    arguments = [str(folder / "gone.json"), str(folder / "good.json"), "--ground-truth", "gone", "--report", str(taken)]
    result = CliRunner().invoke(app, ["compare", *arguments])
    assert "--report: expected a folder" in str(result.exception)
