"""Mask regions are pooled from finer levels the less of their boxes masks fill, in training and when testing."""

import copy
import math

import pytest
import torch

from tests.host_waits import host_waits
from tests.models.test_every_part import LONG_TAIL, OBJECTS, SIZE, assert_sound, picture, section, step, target
from tis_ray.errors import ConfigError
from tis_ray.instances import Categories
from tis_ray.models import postprocess, pyramid_align
from tis_ray.models.area_ratio import AreaRatio
from tis_ray.models.assembly import build_detector, check_parts
from tis_ray.models.detector import Detector
from tis_ray.models.positives import Regions, positives
from tis_ray.models.roi_levels import level_rule

ANCHORS = [[8], [32], [128], [512]]
# side, share: Lin et al.'s level, that of beta 0.5, that of beta 1; levels from 0
KNOWN = [
    (448, 0.6, 3, 2, 2),
    (448, 0.25, 3, 2, 1),
    (448, 0.1, 3, 1, 0),
    (448, 0.05, 3, 0, 0),
    (300, 0.5, 2, 1, 1),
    (800, 0.02, 3, 1, 0),
    (60, 0.3, 0, 0, 0),
    (112, 1, 1, 1, 1),
]


def squares(*sides: float) -> torch.Tensor:
    corner = torch.full((len(sides), 2), 33.3)
    return torch.cat([corner, corner + torch.tensor(sides)[:, None]], dim=1)


def detector(beta: float | None, categories: Categories = LONG_TAIL, **changes: object) -> Detector:
    torch.manual_seed(0)
    mask = {"mask.area_ratio": None if beta is None else {"beta": beta}}
    return build_detector(section({**changes, **mask}), categories)


@pytest.mark.parametrize(("beta", "column"), [(0.5, 3), (1.0, 4)])
def test_known_levels(beta: float, column: int) -> None:
    rule = level_rule("fpn", ANCHORS)
    ratio = AreaRatio(rule, [], beta=beta)
    boxes, shares = squares(*[row[0] for row in KNOWN]), torch.tensor([row[1] for row in KNOWN])
    levels = ratio.levels([boxes[:3], boxes[3:3], boxes[3:]], shares)
    assert levels.dtype == torch.int64
    assert levels.tolist() == [row[column] for row in KNOWN]
    assert rule([boxes]).tolist() == [row[2] for row in KNOWN]


@pytest.mark.parametrize("strides", [(4, 8, 16, 32), (8, 16, 32), (4, 8, 16, 32, 64)], ids=str)
@pytest.mark.parametrize("beta", [0.3, 0.5, 1.0, 2.0])
def test_is_the_formula_of_the_box_and_the_share(strides: tuple[int, ...], beta: float) -> None:
    random = torch.Generator().manual_seed(1)
    corner, sides = (torch.rand(3000, 2, generator=random, dtype=torch.float64) * 2000 for _ in range(2))
    boxes = torch.cat([corner, corner + sides + 1], dim=1).float()
    shares = torch.rand(3000, generator=random).square()
    expected = []
    for (x1, y1, x2, y2), share in zip(boxes.double().tolist(), shares.double().tolist(), strict=True):
        level = math.log2(math.sqrt((x2 - x1) * (y2 - y1)) / (14 * strides[0])) + beta * math.log2(max(share, 1e-4))
        expected.append(min(max(math.floor(level + 1e-6), 0), len(strides) - 1))
    levels = AreaRatio(level_rule("fpn", [], strides), [], beta=beta).levels([boxes], shares)
    assert (levels != torch.tensor(expected)).sum() <= 3  # float32 on a bound
    assert len(set(expected)) == len(strides)


@pytest.mark.parametrize("name", ["fpn", "pyramid"])
def test_full_boxes_stay_where_the_rule_has_them_and_others_are_never_coarser(name: str) -> None:
    rule = level_rule(name, ANCHORS)
    boxes = squares(*torch.logspace(0.3, 3.3, 200).tolist())
    ratio = AreaRatio(rule, [], beta=0.5)
    assert torch.equal(ratio.levels([boxes], torch.ones(200)), rule([boxes]))
    before = rule([boxes])
    for share in (0.7, 0.3, 0.1, 0.01, 0.0):
        levels = ratio.levels([boxes], torch.full((200,), share))
        assert (levels <= before).all()
        assert (levels < before).any() or share > 0.2
        before = levels


def test_the_rule_of_anchors_is_asked_about_a_box_of_the_mask_s_area() -> None:
    rule = level_rule("pyramid", ANCHORS)
    boxes, shares = squares(300, 300, 300, 20), torch.tensor([1.0, 0.04, 0.0025, 0.04])
    assert AreaRatio(rule, [], beta=0.5).levels([boxes], shares).tolist() == rule([squares(300, 60, 15, 4)]).tolist()


def test_no_regions_and_regions_without_area() -> None:
    ratio = AreaRatio(level_rule("fpn", ANCHORS), [0.5], beta=0.5)
    assert ratio.levels([torch.zeros(0, 4)], torch.zeros(0)).shape == (0,)
    assert ratio.levels([torch.zeros(1, 4)], torch.ones(1)).tolist() == [0]
    assert ratio.of_masks(torch.zeros(0, 28, 28), torch.zeros(0, dtype=torch.int64)).shape == (0,)


def test_masks_tell_their_share_and_empty_ones_that_of_their_class() -> None:
    probs = torch.full((4, 10, 10), 0.5)
    probs[0, 0, 0], probs[1, :5], probs[3] = 0.51, 1.0, 1.0
    ratio = AreaRatio(level_rule("fpn", ANCHORS), [0.25, 0.125], beta=0.5)
    assert ratio.of_masks(probs, torch.tensor([1, 2, 2, 1])).tolist() == pytest.approx([0.01, 0.5, 0.125, 1])


def test_objects_tell_the_share_of_their_whole_boxes() -> None:
    """Of the object, not of the part that a region shows; nothing left of a mask counts as a full box."""
    thin, full = target((10, 10, 50, 30), (50, 10, 60, 30)), target((0, 0, 30, 30))
    thin["masks"].pixels[:600] = 0
    thin["masks"].areas[:] = torch.tensor([200, 0])
    regions = [Regions(torch.tensor([[10.0, 10, 30, 30], [50, 10, 60, 30], [0, 0, 9, 9]]), *map(torch.tensor, found))
               for found in (([0, 1, 0], [1, 2, 0]),)]  # fmt: skip
    regions.append(Regions(torch.tensor([[0.0, 0, 20, 20]]), torch.tensor([0]), torch.tensor([1])))
    found = positives(regions, [thin, full], size=8, most=5)
    assert found.ratios.tolist() == [0.25, 1, 1]


# --------------------------------------------------------------------------------------------------- In detectors


def pooled_levels(detector: Detector) -> list[list[int] | None]:
    """Levels that the mask branch asks its pool for from now on, call by call."""
    asked, pool = [], detector.roi_heads.mask_branch.pool

    def note(_module: object, _inputs: object, options: dict[str, torch.Tensor | None]) -> None:
        asked.append(None if options["levels"] is None else options["levels"].tolist())

    pool.register_forward_pre_hook(note, with_kwargs=True)
    return asked


def test_training_pools_by_the_objects_shares() -> None:
    thin = target((8, 8, 88, 60))
    thin["masks"].areas[:] = 2
    for beta, expected in ((0.5, {0}), (1e-9, {0, 1, 2, 3})):
        made = detector(beta, roi_levels="pyramid", anchors={"exact": {"sizes": [[2], [4], [8], [64], [128]]}})
        asked = pooled_levels(made)
        assert_sound(made, step(made, [picture()], [thin]))
        assert len(asked) == 1
        assert set(asked[0]) <= expected
        assert asked[0]
    assert max(asked[0]) > 0  # where shares count next to nothing


@torch.inference_mode()
def test_testing_pools_twice_and_the_second_masks_are_those_of_their_levels() -> None:
    made, plain = detector(1.0).eval(), detector(None).eval()
    plain.load_state_dict(made.state_dict())
    asked = pooled_levels(made)
    looked = made.look([picture(0, (256, 256)), picture(1, (256, 256))])
    boxes = [squares(30, 120, 220), squares(150)]
    labels = [torch.tensor([1, 2, 3]), torch.tensor([4])]
    ours = made.segment(looked.features, boxes, labels, looked.batch.image_sizes)
    theirs = plain.segment(looked.features, boxes, labels, looked.batch.image_sizes)
    branch = made.roi_heads.mask_branch
    first = torch.cat([one.probs for one in theirs])
    levels = branch.area_ratio.levels(boxes, branch.area_ratio.of_masks(first, torch.cat(labels)))
    assert asked == [None, levels.tolist()]
    regions = branch.pool(looked.features, boxes, looked.batch.image_sizes, levels=levels)
    expected = branch.heads[0](regions, torch.cat(labels)).masks[-1].sigmoid()
    assert torch.equal(torch.cat([one.probs for one in ours]), expected)


@torch.inference_mode()
def test_own_boxes_give_own_masks() -> None:
    made = detector(1.0).eval()
    looked = made.look([picture(0, (256, 256)), picture(1, (256, 256))])
    found = made.detect(looked)
    again = made.segment(
        looked.features, [one.boxes for one in found], [one.labels for one in found], looked.batch.image_sizes
    )
    assert sum(len(one.boxes) for one in found) > 0
    for one, masks in zip(found, again, strict=True):
        assert torch.equal(one.mask_probs, masks.probs)


def test_a_gpu_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond NMS, the positives' one wait in training and two in packed crops, which `test_every_part` counts."""
    for module in (pyramid_align, postprocess):
        monkeypatch.setattr(module, "waiting_is_free", lambda device: False)
    counted = []
    for beta in (None, 1.0):
        made = detector(beta)
        with host_waits() as training:
            step(made, [picture(), picture(1)], [OBJECTS, OBJECTS])
        with torch.no_grad(), host_waits() as testing:
            made.eval()([picture(), picture(1)])
        counted.append((training, testing))
    assert counted[0] == counted[1]


@torch.inference_mode()
def test_no_boxes_give_no_masks() -> None:
    made = detector(0.5).eval()
    looked = made.look([picture()])
    (masks,) = made.segment(looked.features, [torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.int64)], [SIZE])
    assert masks.probs.shape == (0, 28, 28)


@pytest.mark.parametrize("ratios", [(), (0.04, 0.5, 1.0, 0.25)], ids=["unknown", "known"])
def test_the_classes_shares_come_from_the_table_and_stay_out_of_the_weights(ratios: tuple[float, ...]) -> None:
    table = Categories(LONG_TAIL.ids, LONG_TAIL.names, LONG_TAIL.supercategories, area_ratios=ratios)
    made = detector(0.5, table)
    assert made.roi_heads.mask_branch.area_ratio.priors.tolist() == pytest.approx([1.0, *(ratios or (1, 1, 1, 1))])
    assert made.state_dict().keys() == detector(None, table).state_dict().keys()
    assert copy.deepcopy(made).to("meta").roi_heads.mask_branch.area_ratio.priors.is_meta


def test_objects_of_an_image_without_any_reach_every_parameter() -> None:
    made = detector(0.5)
    assert_sound(made, step(made, [picture(), picture(1)], [target(), OBJECTS]))
    assert_sound(made, step(made, [picture()], [target()]))


def test_a_single_level_leaves_nothing_to_choose() -> None:
    parts = section(
        {
            "neck": "c4",
            "anchors": {"exact": {"sizes": [[8, 16, 32, 64]]}},
            "box": {"head": "average", "pool_size": 6},
            "mask": {"head": {"convs": {"channels": []}}, "pool_size": 6, "area_ratio": {}},
        }
    )
    with pytest.raises(ConfigError, match=r"detector\.mask\.area_ratio: expected a neck of several levels; got one"):
        check_parts(parts)


def test_a_beta_that_changes_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"mask\.area_ratio\.beta: .*greater than 0"):
        section({"mask.area_ratio": {"beta": 0}})
