"""Plots: the figures they show, the scale CDF of TIS among them, and that they fit into any page."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tis_ray.reports import plots

SCALES = np.sqrt(np.array([16.0, 64.0, 1024.0, 4096.0, 10000.0]))  # 4, 8, 32, 64 and 100 px


@pytest.mark.parametrize(("mark", "share"), [(3.9, 0.0), (31.9, 0.4), (32, 0.6), (100, 1.0), (1e9, 1.0)])
def test_the_share_of_objects_up_to_a_size(mark: float, share: float) -> None:
    assert plots.share_below(SCALES, mark) == share


def test_the_share_of_no_objects_is_zero() -> None:
    assert plots.share_below(np.zeros(0), 32) == 0


def test_the_curve_rises_where_the_share_does() -> None:
    x, shares = plots.steps_of(np.array([8.0, 4.0, 8.0, 2.0]))
    assert dict(zip(x.tolist(), shares.tolist(), strict=False)) == {2.0: 0.25, 4.0: 0.5, 8.0: 1.0}


def test_a_curve_of_many_values_is_thinned_and_keeps_its_ends_and_its_form() -> None:
    values = np.random.default_rng(0).lognormal(3, 1, 20_000)
    x, shares = plots.steps_of(values)
    assert len(x) <= 400
    assert (x[0], x[-1], shares[-1]) == (values.min(), values.max(), 1.0)
    for at, share in zip(x[::40], shares[::40], strict=True):
        assert share == pytest.approx(np.mean(values <= at))


def drawn() -> dict[str, str]:
    gap = ([0, 1], [1, np.nan])
    return {
        "lines": plots.lines({"a": gap, "b": ([0], [2])}, xlabel="x", ylabel="y", markers=True),
        "log": plots.lines({"a": ([0, 1], [1, 10])}, xlabel="x", ylabel="y", log_y=True, ylim=(0.5, None)),
        "no line": plots.lines({}, xlabel="x", ylabel="y"),
        "cdf": plots.cumulative(SCALES, xlabel="px", ylabel="share", marks=(8, 32, 96)),
        "cdf of none": plots.cumulative(np.zeros(0), xlabel="px", ylabel="share", marks=(8,)),
        "bars": plots.bars({"a": 3, "b": 0}, xlabel="objects", log=True),
        "no bars": plots.bars({}, xlabel="objects"),
        "histogram": plots.histogram(SCALES, [1, 10, 100], xlabel="px", ylabel="objects", log_x=True),
    }


@pytest.fixture(scope="module")
def every_plot() -> dict[str, str]:
    return drawn()


def test_each_is_one_element_that_is_drawn_in_the_pages_own_colours(every_plot: dict[str, str]) -> None:
    for name, svg in every_plot.items():
        root = ElementTree.fromstring(svg)
        assert root.tag.endswith("svg"), name
        assert root.get("viewBox"), name
        assert "currentColor" in svg, name
        assert "#000000" not in svg, name


def test_ids_of_different_plots_do_not_clash_and_all_that_are_used_are_there(every_plot: dict[str, str]) -> None:
    seen: set[str] = set()
    for name, svg in every_plot.items():
        ids = re.findall(r' id="([^"]+)"', svg)
        used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
        assert used <= set(ids), name
        assert not seen & set(ids), name
        seen |= set(ids)


def test_the_same_plot_is_the_same_text(every_plot: dict[str, str]) -> None:
    assert drawn() == every_plot


def test_marks_say_the_share_below_them(every_plot: dict[str, str]) -> None:
    svg = every_plot["cdf"]
    assert [label for label in ("8: 40%", "32: 60%", "96: 80%") if label in svg] == ["8: 40%", "32: 60%", "96: 80%"]


def test_a_plot_is_written_as_a_picture_too_in_the_same_style(tmp_path: Path) -> None:
    x = np.linspace(0, 1, 5)
    made = {
        "nested": plots.nested({"a": x / 2, "b": x}, x, xlabel="x", ylabel="y", png=tmp_path / "nested.png"),
        "columns": plots.columns(
            ["s", "l"], {"a": [1.0, float("nan")]}, xlabel="x", ylabel="y", png=tmp_path / "columns.png"
        ),
        "matrix": plots.matrix(np.eye(2), ["a", "b"], ["a", "b"], xlabel="x", ylabel="y", png=tmp_path / "matrix.png"),
        "points": plots.points({"a": (1.0, 2.0), "b": (1.0, 2.0)}, xlabel="x", ylabel="y", png=tmp_path / "points.png"),
        "differences": plots.differences({"a": 1.0}, {"a": (0.5, 2.0)}, xlabel="x", png=tmp_path / "differences.png"),
    }
    for name, svg in made.items():
        assert svg.startswith("<svg"), name
        assert ">x</text>" in svg, name
        with Image.open(tmp_path / f"{name}.png") as picture:
            corner = picture.convert("RGB").getpixel((1, 1))
        assert corner == (255, 255, 255), name


def test_names_of_points_in_one_place_stand_below_each_other() -> None:
    svg = plots.points({"first": (1.0, 2.0), "second": (1.0, 2.0), "far": (0.1, 0.2)}, xlabel="x", ylabel="y")
    (first, second) = (re.search(rf'y="([\d.]+)"[^>]*>{name}<', svg)[1] for name in ("first", "second"))
    assert float(second) > float(first) + 8
