"""The level a region is pooled from, by either rule, at the bounds that the papers give."""

import pytest
import torch

from tis_ray.errors import ConfigError
from tis_ray.models.anchors.pyramid import build as pyramid_anchors
from tis_ray.models.pyramid_align import Pyramid, PyramidRoIAlign
from tis_ray.models.roi_levels import level_rule

FPN = [(1, 2), (111.9, 2), (112, 3), (223.9, 3), (224, 4), (447.9, 4), (448, 5), (1000, 5)]
PYRAMID = [(1, 2), (22, 2), (23, 3), (90, 3), (91, 4), (221, 4), (222, 5), (724, 5), (3000, 5)]


def squares(*sides: float) -> torch.Tensor:
    corner = torch.full((len(sides), 2), 10.0)
    return torch.cat([corner, corner + torch.tensor(sides)[:, None]], dim=1)


@pytest.mark.parametrize(("name", "table"), [("fpn", FPN), ("pyramid", PYRAMID)])
def test_squares_go_to_the_level_of_the_paper(name: str, table: list[tuple[float, int]]) -> None:
    rule = level_rule(name, pyramid_anchors((4, 8, 16, 32, 64)).sizes)
    boxes = squares(*[side for side, _ in table])
    levels = rule([boxes[:3], boxes[3:3], boxes[3:]])
    assert levels.dtype == torch.int64
    assert (levels + 2).tolist() == [level for _, level in table]


@pytest.mark.parametrize("strides", [(4, 8, 16), (8, 16, 32), (16,), (4, 8, 16, 32, 64)], ids=str)
def test_regions_go_to_levels_that_are_there(strides: tuple[int, ...]) -> None:
    """Of a neck with other levels than the usual four the nearest one is taken; 64 begins at 896 px."""
    sides, usual = (20, 120, 230, 500, 1000), (4, 8, 16, 32, 64)
    levels = level_rule("fpn", [], strides)([squares(*sides)])
    assert [strides[level] for level in levels] == [min(max(one, strides[0]), strides[-1]) for one in usual]


def test_pyramid_has_no_more_levels_than_regions_are_pooled_from() -> None:
    rule = level_rule("pyramid", [[8], [16], [32], [64], [128]], (4, 8, 16))
    assert rule([squares(2, 17, 30, 90, 400)]).tolist() == [0, 1, 2, 2, 2]


def test_pyramid_bounds_are_geometric_means_of_neighbouring_sides() -> None:
    bounds = level_rule("pyramid", pyramid_anchors((4, 8, 16, 32, 64)).sizes).bounds
    assert bounds == pytest.approx([22.627, 90.510, 221.703], abs=1e-3)


def test_pyramid_picks_the_level_whose_anchor_is_nearest_in_log_scale() -> None:
    anchors = [[8, 16], [32, 64], [128, 192], [256, 512]]
    sides = torch.logspace(0.5, 3.2, 500)
    distance = torch.stack(
        [(sides[:, None].log() - torch.tensor(level).log()).abs().min(dim=1).values for level in anchors]
    )
    rule = level_rule("pyramid", [*anchors, [1024, 2048]])
    assert torch.equal(rule([squares(*sides.tolist())]), distance.argmin(dim=0))


def test_only_the_area_counts() -> None:
    rule = level_rule("pyramid", pyramid_anchors((4, 8, 16, 32, 64)).sizes)
    boxes = torch.tensor([[0.0, 0, 200, 2], [0, 0, 2, 200], [0, 0, 20, 20]])
    assert rule([boxes]).tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", ["fpn", "pyramid"])
def test_no_regions_and_regions_without_area(name: str) -> None:
    rule = level_rule(name, pyramid_anchors((4, 8, 16, 32, 64)).sizes)
    assert rule([torch.zeros(0, 4)]).tolist() == []
    assert rule([torch.zeros(1, 4)]).tolist() == [0]


def test_anchors_that_shrink_from_level_to_level_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"detector\.roi_levels: pyramid expects anchors that grow"):
        level_rule("pyramid", [[8], [128], [16], [64], [32]])


def test_pooling_reads_the_level_of_the_rule() -> None:
    """Maps that hold their own level's number tell where a region was pooled."""
    maps = {
        str(i): torch.full((1, 1, 256 // stride, 256 // stride), float(i)) for i, stride in enumerate((4, 8, 16, 32))
    }
    boxes = squares(20, 60, 120, 230)
    for name, expected in (("fpn", [0, 0, 1, 2]), ("pyramid", [0, 1, 2, 3])):
        levels = level_rule(name, pyramid_anchors((4, 8, 16, 32, 64)).sizes)
        pool = PyramidRoIAlign(Pyramid(1, (4, 8, 16, 32), levels), 2)
        assert pool(maps, [boxes], [(256, 256)])[:, 0, 0, 0].tolist() == expected
