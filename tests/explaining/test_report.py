"""Reports: their numbers are those of the metrics, they say sensible things of nothing, and fit a phone."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.explaining.streets import CATEGORIES, found_in, write_street
from tests.tuning.kept_runs import Skill, ensemble_of, write_run, write_truth
from tis_ray.cli import app
from tis_ray.errors import ConfigError
from tis_ray.evaluation.coco import evaluate
from tis_ray.evaluation.metrics import evaluate_by
from tis_ray.evaluation.outcomes import outcomes
from tis_ray.evaluation.overlaps import overlaps
from tis_ray.explaining import pictures
from tis_ray.explaining.explanation import best_score, explain
from tis_ray.explaining.predictions import Predictions, read_predictions
from tis_ray.explaining.report import evaluation_report
from tis_ray.explaining.views import score_views
from tis_ray.formats import coco
from tis_ray.formats.coco import CocoDataset

PNGS = {
    "calibration.png",
    "confusion.png",
    "errors_all.png",
    "errors_small.png",
    "objects.png",
    "scores.png",
    "sizes.png",
}


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> CocoDataset:
    return write_street(tmp_path_factory.mktemp("street"))


def report_of(folder: Path, dataset: CocoDataset, results: list, **options) -> tuple[str, dict]:
    page = evaluation_report(
        folder, dataset, Predictions(Path("made.json"), results), [("coco", evaluate(dataset, results))], **options
    )
    return page.read_text(), json.loads((folder / "figures.json").read_text())


def lead_of(html: str) -> str:
    return re.search(r'<p class="lead">(.*?)</p>', html, re.DOTALL)[1]


@pytest.fixture(scope="module")
def written(street: CocoDataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the command printed, and the folder with `made.json` and the `report` about it."""
    folder = tmp_path_factory.mktemp("written")
    (folder / "made.json").write_text(json.dumps(found_in(street, off_px=2)))
    arguments = ["--predictions", str(folder / "made.json"), "--ground-truth", str(street.path)]
    arguments += ["--report", str(folder / "report"), "--metric", "coco", "--metric", "proposals", "--pictures", "2"]
    printed = CliRunner().invoke(app, ["evaluate", *arguments])
    assert printed.exit_code == 0, printed.output
    return printed.output, folder


def test_the_command_writes_a_page_its_plots_and_the_metrics_figures(
    street: CocoDataset, written: tuple[str, Path]
) -> None:
    printed, folder = written
    assert f"report: {folder / 'report' / 'report.html'}" in printed
    assert {path.name for path in (folder / "report").iterdir()} == {*PNGS, "report.html", "figures.json"}
    html, figures = (
        (folder / "report" / "report.html").read_text(),
        json.loads((folder / "report" / "figures.json").read_text()),
    )
    read = read_predictions(folder / "made.json", street).results
    scores = evaluate(street, read)["segm"]
    assert lead_of(html).startswith(f"Mask AP {100 * scores.AP:.1f}, AP50 {100 * scores.AP50:.1f}")
    assert figures["scores"]["segm"]["AP"] == pytest.approx(scores.AP)
    assert figures["error_curves"]["all"]["all"]["C50"] == pytest.approx(scores.AP50, abs=1e-9)
    assert "AR1000" in html, "the second metric"
    assert html.count("<img") == 2 + 4 + 2, "mistakes, the worst twice, the best twice"
    assert html.count("<svg") == 7
    hits, false = (sum(row[key] for row in figures["classes"]) for key in ("hits", "false"))
    assert (hits, false) == (
        sum(one["hits"] for one in figures["images"]),
        sum(one["false"] for one in figures["images"]),
    )
    assert f"{hits} of 32 ({hits / 32:.0%}) objects are found" in lead_of(html)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--pictures", "3"], "--pictures: expected --report beside it, whose it is; got none"),
        (["--no-views"], "--views: expected --report beside it, whose it is; got none"),
        (
            ["--bootstrap", "9", "--metric", "proposals", "--metric", "wad-kaggle"],
            "--bootstrap: expected a metric with intervals beside it, coco, lvis, wad-coco; got proposals, wad-kaggle",
        ),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(street: CocoDataset, options: list[str], message: str) -> None:
    arguments = ["--predictions", "made.json", "--ground-truth", str(street.path), *options]
    refused = CliRunner().invoke(app, ["evaluate", *arguments])
    assert isinstance(refused.exception, ConfigError)
    assert str(refused.exception) == message


def test_the_least_score_that_is_shown_has_the_best_f1(street: CocoDataset, tmp_path: Path) -> None:
    (tmp_path / "made.json").write_text(json.dumps(found_in(street, off_px=4)))
    pairs = overlaps(street, read_predictions(tmp_path / "made.json", street).results, kind="bbox")

    def f1(score: float) -> float:
        seen = outcomes(pairs, min_score=score)
        return 2 * seen.hits.sum() / (2 * seen.hits.sum() + seen.false.sum() + seen.missed.sum())

    best = max(f1(score) for score in np.unique(pairs.scores))
    assert f1(best_score(pairs)) == pytest.approx(best)


@pytest.mark.parametrize(
    ("objects", "found", "said"),
    [
        pytest.param(4, "nothing", "Nothing was found, so every object is missed.", id="empty results"),
        pytest.param(0, "false ones", "Without objects there is nothing to score.", id="no objects"),
        pytest.param(0, "nothing", "Without objects there is nothing to score.", id="nothing at all"),
        pytest.param(4, "boxes", "Box AP ", id="boxes only"),
    ],
)
def test_a_page_is_written_of_nothing_too(objects: int, found: str, said: str, tmp_path: Path) -> None:
    street = write_street(tmp_path, num_images=1, objects=objects)
    results = [] if found == "nothing" else [
        {key: value for key, value in one.items() if key != "segmentation"} for one in found_in(street)
    ]  # fmt: skip
    html, figures = report_of(tmp_path / "report", street, results, num_pictures=1)
    assert said in lead_of(html)
    assert ">nan<" not in html
    assert "NaN" not in json.dumps(figures)


def test_a_metric_of_masks_alone_does_not_lead_a_report_of_boxes(street: CocoDataset, tmp_path: Path) -> None:
    boxes = [{key: one[key] for key in one if key != "segmentation"} for one in found_in(street)]
    read = Predictions(tmp_path / "boxes.json", boxes)
    reports = [("wad-coco", evaluate_by("wad-coco", street, boxes))]
    page = evaluation_report(tmp_path / "report", street, read, reports, num_pictures=0)
    figures = json.loads(page.with_name("figures.json").read_bytes())
    assert figures["scores"]["bbox"]["AP"] == evaluate(street, boxes)["bbox"].AP > 0
    assert figures["other_metrics"]["wad-coco"]["segm"]["AP"] == -1


def test_a_thousand_classes_are_shown_by_their_extremes(tmp_path: Path) -> None:
    many = [*CATEGORIES, *({"id": i, "name": f"thing {i}", "supercategory": "thing"} for i in range(100, 1299))]
    street = write_street(tmp_path, num_images=1, objects=50, categories=many)
    content = json.loads(street.path.read_text())
    for i, entry in enumerate(content["annotations"]):
        entry["category_id"] = 100 + i
    street.path.write_text(json.dumps(content))
    html, figures = report_of(tmp_path / "report", coco.read(street.path), [], num_pictures=0)
    assert "1,153 classes of 1,203 have no object here" in html
    assert "The 12 most frequent classes of 50" in html
    assert len(figures["classes"]) == 1203
    assert len(html) < 400_000


def test_the_views_of_a_run_are_scored_and_its_bad_images_named(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "gt.json", num_images=4)
    ensemble = ensemble_of({"good": {"scales": [64], "flip": False}, "bad": {"scales": [64], "flip": False}})
    write_run(tmp_path / "results.run", ensemble, truth, lambda view: Skill(recall=0.2 if view.member == "bad" else 1))
    read = read_predictions(tmp_path / "results.run", truth)
    page = evaluation_report(tmp_path / "report", truth, read, [("coco", evaluate(truth, read.results))])
    figures = json.loads((tmp_path / "report" / "figures.json").read_text())
    rows = {row["name"]: row for row in figures["run"]["views"]}
    assert list(rows) == ["bad@64", "good@64", "the ensemble"]
    assert rows["bad@64"]["AP"] < rows["good@64"]["AP"]
    assert rows["the ensemble"]["AP"] == pytest.approx(figures["scores"]["segm"]["AP"], abs=1e-3)
    assert "4 images: 4 whole, 0 degraded" in page.read_text()


def test_pictures_show_what_is_missed_in_orange_and_what_is_right_in_blue(street: CocoDataset) -> None:
    entry = street.entries(2)[1]
    right = {**{key: entry[key] for key in ("image_id", "category_id", "bbox", "segmentation")}, "score": 0.9}
    one = explain(street, [right], kind="bbox")
    there, found = pictures.there(one, 1), pictures.found(one, 1)
    states = {name.partition(", ")[2] or "found": colour for name, colour in there.colours.items()}
    assert states["found"][2] > states["found"][0]
    assert states["missed"][0] > states["missed"][2]
    assert [shown["bbox"] for shown in found.shown] == [entry["bbox"]]
    assert set(found.colours.values()) == {states["found"]}
    (crowd,) = [shown for shown in pictures.there(one, 0).shown if "ignored" in shown["category"]]
    assert crowd["bbox"] == [100, 0, 60, 20]


def test_an_enlarged_window_holds_the_object_where_it_is() -> None:
    image = np.zeros((60, 80, 3), np.uint8)
    side = pictures.Side(
        [{"category": "x", "score": None, "bbox": [41, 31, 4, 4], "segmentation": None}], {"x": (9, 200, 9)}
    )
    window = pictures.window_around([41, 31, 4, 4], (60, 80))
    assert window == (19, 9, 67, 57)
    drawn = np.asarray(pictures.enlarged(image, side, window))[: 48 * 7]
    assert (drawn == (9, 200, 9)).all(axis=2).any()
    rows, columns = np.nonzero((drawn == (9, 200, 9)).all(axis=2))
    assert rows.max() <= (31 - 9 + 4) * 7 + 1
    assert columns.max() <= 48 * 7


def test_pictures_beyond_the_room_of_a_page_are_left_out(monkeypatch: pytest.MonkeyPatch, street: CocoDataset) -> None:
    whole = pictures.whole(explain(street, []), 0)
    kept, spent = pictures.within_budget(whole)
    assert len(kept) == 2
    assert spent == sum(len(one.uri) for one in whole)
    monkeypatch.setattr(pictures, "_PICTURES_BYTES", spent - 1)
    assert len(pictures.within_budget(whole)[0]) == 1


def test_a_picture_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    street = write_street(tmp_path, num_images=3)
    (tmp_path / "1.png").unlink()
    (tmp_path / "2.png").write_bytes(b"no picture")
    one = explain(street, [])
    assert [len(pictures.whole(one, image)) for image in range(3)] == [0, 0, 2]
    assert len(pictures.zoomed(one, 6)) == 1


def test_it_fits_a_phone(written: tuple[str, Path]) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        except sync_api.Error as error:
            pytest.skip(f"no chromium: {error}")
        page = browser.new_page(viewport={"width": 390, "height": 800})
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
        page.goto((written[1] / "report" / "report.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.locator("img").evaluate_all("all => all.every(one => one.naturalWidth > 0)")
        assert said == []
        browser.close()


def test_several_views_whose_ranges_need_a_missing_checkpoint_have_no_row(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "gt.json", num_images=2)
    written = ensemble_of({"a": {"scales": [64, 96], "flip": False}})
    run = write_run(tmp_path / "results.run", written, truth)
    path = run.path / "ensemble.yaml"
    path.write_text(path.read_text().replace("auto_ranges: null", "auto_ranges: {}"))
    assert run.ensemble.fusion.auto_ranges is not None
    rows = score_views(read_predictions(run.path, truth), truth, "bbox")
    assert [row.name for row in rows] == ["a@64", "a@96"]
