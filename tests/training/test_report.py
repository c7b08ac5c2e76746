"""The page about a run: it says what the run said, of a run that goes on, too, and opens in a browser."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from tests.training.conftest import small_recipe
from tis_ray.config import Recipe
from tis_ray.errors import ConfigError
from tis_ray.training import run_folder
from tis_ray.training.history import Series, read_history
from tis_ray.training.report import binned, report_line, write_report
from tis_ray.training.run import run

CELL = re.compile(r"<t[hd][^>]*>(.*?)</t[hd]>")


def rows_of(html: str) -> dict[str, list[str]]:
    """The cells of every table row by the first of them."""
    rows = [CELL.findall(row) for row in re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)]
    return {cells[0]: cells[1:] for cells in rows if cells}


@pytest.fixture(scope="module")
def trained(rectangles: Path, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A run of two epochs that has ended."""
    folder = tmp_path_factory.mktemp("trained")
    recipe = run_folder.absolute(small_recipe(rectangles, folder, "toy", f"data.val.annotations={rectangles}"))
    run_folder.prepare(recipe)
    run(recipe)
    run_folder.publish(recipe.run_dir)
    return recipe


def test_it_says_what_the_run_said(trained: Recipe):
    html = write_report(trained.run_dir).read_text()
    metrics = json.loads((trained.run_dir / "checkpoint" / "metrics.json").read_text())
    rows = rows_of(html)
    assert rows["box AP"][0] == f"{100 * metrics['box_ap']:.1f}"
    assert rows["mask AP, small objects"][0] == f"{100 * metrics['mask_ap_small']:.1f}"
    assert f"after 2 epochs and {metrics['step']} steps" in html
    history = read_history(trained.run_dir)
    total = history.series["loss/total"]
    assert total.steps.tolist() == list(range(1, metrics["step"] + 1))
    assert rows["total"] == [f"{total.values[0]:.4g}", f"{total.values[-1]:.4g}"]
    assert set(history.group("loss/")) < set(rows)
    assert "shufflenet_v2_x0_5" in html, "the recipe"
    assert rows["workers"][0].startswith("1, the first on ")
    assert rows["device of each"][0].startswith("CPU, ")
    assert html.count("<img") == 4, "validation images"
    assert html.count("<svg") == 8, "three of scores, two of losses, the learning rate, two of speed"


def test_the_same_images_are_shown_after_every_validation(trained: Recipe):
    history = read_history(trained.run_dir)
    assert sorted(history.pictures) == ["samples/0.png", "samples/2.png", "samples/5.png", "samples/7.png"]
    assert history.pictures_step == 8
    there = np.asarray(history.pictures["samples/0.png"].convert("RGB"))[:64, :96]
    assert (np.abs(there.astype(int) - 40) < 3).all(axis=2).mean() > 0.5, "the left one is the image, drawn over"


def test_a_page_of_a_run_that_goes_on_says_so(make_recipe: Callable[..., Recipe], run_until):
    recipe = run_folder.absolute(make_recipe("toy"))
    run_folder.prepare(recipe)
    assert "No step was written" in write_report(recipe.run_dir).read_text()
    run_until(recipe, 6)
    html = write_report(recipe.run_dir).read_text()
    assert "Not finished: the last checkpoint is after 1 epoch and 4 steps" in html
    assert "There was no validation" in html


def test_a_folder_without_a_run_is_refused_and_never_ends_a_training(tmp_path: Path):
    with pytest.raises(ConfigError, match="expected the folder of a run"):
        write_report(tmp_path)
    assert report_line(tmp_path).startswith(f"{tmp_path.name}: its report cannot be written (ConfigError")


def test_steps_of_a_killed_run_are_those_of_the_run_that_went_on(tmp_path: Path):
    for purge, values in ((None, [3.0, 2.0, 9.0, 9.0]), (3, [1.0, 0.5])):
        writer = SummaryWriter(tmp_path / "tensorboard", purge_step=purge)
        for step, value in enumerate(values, start=purge or 1):
            writer.add_scalar("loss/total", value, step)
        writer.close()
    total = read_history(tmp_path).series["loss/total"]
    assert total.steps.tolist() == [1, 2, 3, 4]
    assert total.values.tolist() == [3.0, 2.0, 1.0, 0.5]


@pytest.mark.parametrize(
    ("number", "points", "size"), [(0, 0, 1), (1, 1, 1), (200, 200, 1), (201, 101, 2), (999, 200, 5)]
)
def test_long_curves_are_means_of_successive_steps(number: int, points: int, size: int):
    values = np.random.default_rng(0).random(number)
    steps, means, each = binned(Series(np.arange(1.0, number + 1), values, np.zeros(number)))
    assert (len(steps), len(means), each) == (points, points, size)
    for i in range(points):
        assert means[i] == pytest.approx(values[i * size : (i + 1) * size].mean())
        assert steps[i] == min((i + 1) * size, number)


def test_it_opens_in_a_browser_of_a_phones_width(trained: Recipe):
    sync_api = pytest.importorskip("playwright.sync_api")
    path = write_report(trained.run_dir)
    with sync_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        except sync_api.Error as error:
            pytest.skip(f"no chromium: {error}")
        page = browser.new_page(viewport={"width": 390, "height": 800})
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
        page.goto(path.as_uri())
        assert page.title() == "Training run toy"
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.locator("img").evaluate_all("all => all.every(one => one.naturalWidth > 0)")
        assert page.get_by_role("row", name="mask AP, small objects").count() == 1
        assert said == []
        browser.close()


def test_a_picture_of_one_validation_image_alone_is_enough(tmp_path: Path):
    writer = SummaryWriter(tmp_path / "tensorboard")
    writer.add_image("samples/a.png", np.full((4, 6, 3), 7, np.uint8), 5, dataformats="HWC")
    writer.close()
    history = read_history(tmp_path)
    assert (history.pictures["samples/a.png"].size, history.pictures_step) == ((6, 4), 5)
    assert isinstance(history.pictures["samples/a.png"], Image.Image)
