"""Ranges found from the members' training sizes: what each scale speaks for, and that nothing goes unheard."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tis_ray.config import Ensemble, FusionSection, dump, parse
from tis_ray.errors import ConfigError
from tis_ray.formats.training_sizes import TrainingSizes
from tis_ray.fusion.auto_ranges import check_sizes, member_ranges, ranges_of
from tis_ray.fusion.fuse import Fuser, fuse
from tis_ray.instances import Instances
from tis_ray.views import View

HW = (1000, 2000)
INF = math.inf
SIZES = TrainingSizes(tuple(np.linspace(10, 210, 101)))  # the 5 % quantile is 20 px, that of 95 % 200 px


def section(**keys):
    return FusionSection.model_validate({"rules": [], "ranges": "auto", **keys})


def found(*views: View, low=20.0, high=200.0, image_hw=HW):
    return member_ranges(views, image_hw, low, high)


def at(scale, **keys):
    return View("a", scale, **keys)


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        pytest.param([at(800)], [(0, INF)], id="one scale speaks for everything"),
        pytest.param([at(500), at(2000)], [(40, INF), (0, 100)], id="overlapping: its own end each"),
        pytest.param([at(2000), at(500)], [(0, 100), (40, INF)], id="in whichever order"),
        pytest.param([at(500), at(500, flip=True), at(2000)], [(40, INF), (40, INF), (0, 100)], id="as mirrored"),
        pytest.param(
            [at(50), at(2000)], [(200, INF), (0, 200)], id="a gap of 100 to 400 is closed at its geometric mean"
        ),
        pytest.param(
            [at(500), at(1000), at(2000)], [(40, INF), (20, 200), (0, 100)], id="the middle one is bounded twice"
        ),
        pytest.param([at(500, max_long_edge=500), at(2000)], [(80, INF), (0, 100)], id="a capped long edge"),
        pytest.param(
            [at(500), at(400, crop=(0, 0, 400, 200)), at(2000)],
            [(40, INF), (0, 100), (0, 100)],
            id="a crop is as fine as its own factor",
        ),
        pytest.param(
            [at(500), at(200, crop=(0, 0, 400, 200)), at(2000)],
            [(40, INF), (20, 200), (0, 100)],
            id="a crop between the whole views",
        ),
        pytest.param(
            [at(50), at(120, crop=(0, 0, 400, 200)), at(60, crop=(0, 0, 400, 200)), at(2000)],
            [(200, INF), (20 / 0.6, 200 / 0.6), (20 / 0.3, 200 / 0.3), (0, 200)],
            id="a crop within a gap",
        ),
        pytest.param(
            [at(20), at(8, crop=(0, 0, 400, 200)), at(2000)],
            [(math.sqrt(100000), INF), (math.sqrt(100000), 5000), (0, math.sqrt(100000))],
            id="a crop beside a closed gap starts no higher than what is coarser",
        ),
        pytest.param(
            [at(1000), at(800, crop=(0, 0, 200, 200))], [(0, INF), (0, 50)], id="a crop counts for no whole image"
        ),
        pytest.param(
            [at(1000), at(100, crop=(0, 0, 400, 400))], [(0, INF), (80, INF)], id="a coarse crop has no upper end"
        ),
        pytest.param([at(800, crop=(0, 1500, 9, 1600))], [(0, INF)], id="a crop that misses the image"),
        pytest.param(
            [at(400, crop=(0, 0, 400, 400)), at(800, crop=(0, 0, 400, 400)), at(800, crop=(0, 0, 200, 200))],
            [(20, INF), (0, 100), (0, INF)],
            id="crops alone: each region by itself",
        ),
        pytest.param(
            [at(500), at(800, tile=(400, 400, 100), gives_way=True)],
            [(40, INF), (0, 100)],
            id="a grid looks at the whole image",
        ),
        pytest.param(
            [at(500), at(800, tile=(400, 400, 30), gives_way=True)],
            [(30, INF), (0, 100)],
            id="but what is larger than the overlap may be cut in it",
        ),
        pytest.param(
            [at(1000), at(200, tile=(400, 400, 100), gives_way=True)],
            [(0, INF), (40, INF)],
            id="a coarse grid is not trusted with the largest",
        ),
        pytest.param(
            [at(200, tile=(400, 400, 100)), at(800, tile=(800, 800, 100))], [(40, INF), (0, 200)], id="grids alone"
        ),
        pytest.param(
            [at(500), at(2000, tile=(4000, 4000, 100), gives_way=True)],
            [(40, INF), (0, 100)],
            id="one tile holds the whole image",
        ),
    ],
)
def test_finds_what_each_view_shows_as_in_training(views, expected):
    ranges = found(*views)
    assert [pytest.approx(interval) for interval in expected] == list(ranges)


def test_objects_of_one_size_are_shown_by_the_nearest_scale():
    ranges = found(at(500), at(1000), at(4000), low=64.0, high=64.0)
    assert ranges[0] == (pytest.approx(64 * math.sqrt(2)), INF)
    assert ranges[1] == (pytest.approx(32), pytest.approx(64 * math.sqrt(2)))
    assert ranges[2] == (0, pytest.approx(32))


def test_written_ranges_win_and_leave_the_others_as_found():
    views = [at(500), at(2000), View("b", 500)]
    written = section(ranges={"@2000": [0, 55]}, auto_ranges={})
    ranges = ranges_of(views, written, sizes={"a": SIZES, "b": SIZES}, image_hw=HW)
    assert ranges == [(pytest.approx(40), INF), (0, 55), (0, INF)]


def test_the_shares_are_the_sections():
    shares = section(auto_ranges={"low": 0.2, "high": 0.5})  # 50 px and 110 px
    ranges = ranges_of([at(500), at(2000)], shares, sizes={"a": SIZES}, image_hw=HW)
    between = pytest.approx(math.sqrt(55 * 100))
    assert ranges == [(between, INF), (0, between)]


def test_each_member_goes_by_its_own_training():
    sizes = {"a": SIZES, "b": TrainingSizes((1.0, 1.0))}
    small = ranges_of([View("b", 500), View("b", 2000)], section(), sizes=sizes, image_hw=HW)
    assert small == [(pytest.approx(1.0), INF), (0, pytest.approx(1.0))]
    assert ranges_of([at(500), at(2000), View("b", 500), View("b", 2000)], section(), sizes=sizes, image_hw=HW) == [
        *ranges_of([at(500), at(2000)], section(), sizes=sizes, image_hw=HW),
        *small,
    ]


def test_the_fusion_hears_each_size_where_it_was_trained():
    boxes = [[0, 0, 20, 20], [0, 0, 70, 70], [0, 0, 300, 300]]
    views = {at(scale): Instances.of(boxes, [0.9, 0.8, 0.7], [0, 0, 0]) for scale in (500, 2000)}
    fused = fuse(views, section(), image_hw=HW, sizes={"a": SIZES})
    assert sorted(zip(fused.source.tolist(), fused.boxes[:, 2].tolist(), strict=True)) == [
        (0, 70),
        (0, 300),
        (1, 20),
        (1, 70),
    ]


def test_a_failed_view_leaves_the_ranges_of_the_others():
    views = [at(500), at(2000)]
    found = {views[0]: Instances.of([[0, 0, 20, 20]], [0.9], [0])}
    assert len(fuse(found, section(), image_hw=HW, sources=views, sizes={"a": SIZES})) == 0


def test_missing_sizes_are_refused_with_the_checkpoint_and_what_to_do():
    members = {"a": {"checkpoint": "runs/a", "scales": [500]}, "b": {"checkpoint": "runs/b", "scales": [500, 2000]}}
    ensemble = Ensemble.model_validate({"members": members, "fusion": {"ranges": "auto"}})
    message = r'^fusion\.auto_ranges: expected training_sizes\.json in runs/b, .* of members\.b.*"b@500": \[0, null\]$'
    with pytest.raises(ConfigError, match=message):
        check_sizes(ensemble, {"a": SIZES})
    with pytest.raises(ConfigError, match=message):
        Fuser.of(ensemble, None, sizes={"a": SIZES})
    check_sizes(ensemble, {"a": SIZES, "b": SIZES})
    written = {"auto_ranges": {}, "ranges": {"b@500": [0, 90], "b@2000": [0, 50]}}
    check_sizes(Ensemble.model_validate({"members": members, "fusion": written}), {"a": SIZES})


def test_missing_sizes_are_refused_by_the_fusion_itself():
    with pytest.raises(ConfigError, match=r"^fusion\.auto_ranges: expected members with .*; got none: write"):
        Fuser(section())
    with pytest.raises(
        ConfigError, match=r"^fusion\.auto_ranges: expected the training sizes of members\.b; got none$"
    ):
        fuse({View("b", 500): Instances.empty()}, section(), image_hw=HW, sizes={"a": SIZES})


@pytest.mark.parametrize(
    ("content", "ranges"),
    [
        pytest.param({"preset": "lvis", "ranges": "auto"}, {}, id="in their place"),
        pytest.param({"preset": "lvis", "auto_ranges": {"low": 0.1}}, {}, id="options alone"),
        pytest.param({"preset": "lvis", "auto_ranges": {}, "ranges": {"@800": [0, 9]}}, {"@800": (0, 9)}, id="beside"),
    ],
)
def test_automatic_ranges_win_over_those_of_a_preset(content, ranges):
    once = parse(FusionSection, content, source="fusion.yaml")
    assert once.ranges == ranges
    assert once.auto_ranges is not None
    assert parse(FusionSection, dump(once), source="written") == once


def test_the_table_in_the_documentation_is_what_is_found():
    text = (Path(__file__).parents[2] / "docs" / "fusion.md").read_text()
    for height, width in ((480, 640), (1080, 1920), (2710, 3384)):
        (_, high), (low, _), _ = ranges = found(
            at(800), at(1200), at(1600), low=20.0, high=320.0, image_hw=(height, width)
        )
        assert (high, ranges[2][0]) == (INF, 0)
        middle = f"{low:.1f} to {ranges[1][1]:.1f}"
        assert f"| {width}x{height} | from {ranges[0][0]:.1f} | {middle} | to {ranges[2][1]:.1f} |" in text


# ------------------------------------------------------------------------------------------------ properties


@st.composite
def looks(draw):
    """Views of one member at an image, and what the member was trained on."""
    image_hw = draw(st.tuples(st.integers(1, 4000), st.integers(1, 4000)))
    corners = st.tuples(*[st.integers(0, 3000)] * 2, *[st.integers(1, 3000)] * 2)
    crops = corners.map(lambda c: (c[0], c[1], c[0] + c[2], c[1] + c[3]))
    tiles = st.tuples(*[st.integers(200, 3000)] * 2, st.integers(0, 150))
    scales, flips, caps = st.integers(1, 5000), st.booleans(), st.none() | st.integers(200, 6000)
    view = st.builds(View, st.just("a"), scales, flips, max_long_edge=caps)
    piece = st.builds(View, st.just("a"), scales, flips, crops, caps)
    grid = st.builds(View, st.just("a"), scales, flips, max_long_edge=caps, tile=tiles, gives_way=st.just(True))
    low = draw(st.floats(0.5, 500))
    high = low * draw(st.floats(1, 100))
    return draw(st.lists(view, min_size=1, max_size=4)), draw(st.lists(piece | grid, max_size=3)), image_hw, low, high


@given(looks())
def test_every_size_is_heard_by_a_view_of_the_whole_image(case):
    whole, pieces, image_hw, low, high = case
    views = (*whole, *pieces)
    reached = []
    for view, (start, stop) in zip(views, member_ranges(views, image_hw, low, high), strict=True):
        in_tiles = view.tile and len(view.tiles(image_hw)) > 1
        if not view.crop:  # what is larger than the overlap may be cut in every tile
            reached.append((start, min(stop, view.tile[2]) if in_tiles else stop))
    heard = 0.0
    for start, stop in sorted(reached):
        assert start <= heard
        heard = max(heard, stop)
    assert heard == INF


@given(looks())
def test_ranges_are_not_empty_and_fall_as_scales_grow(case):
    whole, pieces, image_hw, low, high = case
    views = (*whole, *pieces)
    intervals = member_ranges(views, image_hw, low, high)
    assert all(0 <= start < stop for start, stop in intervals)
    factors = [view.resize_factor(image_hw) for view in views]
    steps = sorted((f, *interval) for f, interval in zip(factors, intervals, strict=True) if f is not None)
    for coarse, fine in pairwise(steps):
        assert fine[1] <= coarse[1]
        assert fine[2] <= coarse[2]
        assert fine[0] > coarse[0] or fine[1:] == coarse[1:]


@given(looks())
def test_nothing_that_was_trained_on_is_taken_from_a_view(case):
    whole, pieces, image_hw, low, high = case
    views = (*whole, *pieces)
    for view, (start, stop) in zip(views, member_ranges(views, image_hw, low, high), strict=True):
        factor = view.resize_factor(image_hw)
        assert factor is None or (start <= low / factor and stop >= high / factor)
