"""What a run without a device foretells is what a run on one needs."""

import pytest
import torch
from torch.utils.module_tracker import ModuleTracker

from tests.tiny import CATEGORIES, TINY_DETECTOR
from tis_ray.config import Choice, DetectorSection
from tis_ray.inspection.dry_run import DryRun, live_bytes, part_of
from tis_ray.inspection.live import LiveBytes
from tis_ray.models import postprocess, pyramid_align
from tis_ray.models.assembly import build_detector

KEPT = {"rpn": {"nms_iou_test": 0.99}, "box": {**TINY_DETECTOR["box"], "nms_iou": 0.99, "max_instances": 50}}


def mask_of(pooling: object) -> dict[str, object]:
    return {"mask": {**TINY_DETECTOR["mask"], "pooling": pooling}}


def section_of(**parts: object) -> DetectorSection:
    return DetectorSection.model_validate({**TINY_DETECTOR, **parts})


@pytest.fixture(scope="module")
def run() -> DryRun:
    return DryRun(section_of(), CATEGORIES)


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The detector takes the ways here that it takes where an answer of the device is waited for."""
    for module in (postprocess, pyramid_align):
        monkeypatch.setattr(module, "waiting_is_free", lambda device: False)


def measured(section: DetectorSection, size_hw: tuple[int, int], num_frames: int) -> LiveBytes:
    torch.manual_seed(0)
    detector = build_detector(section, CATEGORIES).eval()
    images = [torch.randint(0, 256, (3, *size_hw), dtype=torch.uint8) for _ in range(num_frames)]
    with ModuleTracker() as tracker:
        live = live_bytes(tracker)
        with torch.no_grad(), live:
            detector([image.clone() for image in images])
    return live


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize(
    ("parts", "size_hw", "num_frames"),
    [
        pytest.param({}, (256, 320), 1, id="peak in the backbone"),
        pytest.param({}, (64, 64), 2, id="peak in the mask branch"),
        pytest.param(KEPT, (100, 333), 2, id="peak in the box stage"),
        pytest.param({"neck": {"fpn": {"channels": 16, "deformable": True}}}, (256, 320), 2, id="deformable"),
    ],
)
def test_memory_is_that_of_a_real_run(parts: dict[str, object], size_hw: tuple[int, int], num_frames: int) -> None:
    section = section_of(**parts)
    live = measured(section, size_hw, num_frames)
    foretold = DryRun(section, CATEGORIES).peak(size_hw, num_frames=num_frames)
    assert foretold.num_bytes == pytest.approx(live.peak, rel=1e-3)  # NMS keeps a box less, here and there
    assert foretold.part == live.peak_at


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("pooling", [{"subnet": {"channels": 16}}, {"deformable": {"hidden": 16}}], ids=str)
def test_memory_of_pools_that_gather_is_that_of_a_real_run(pooling: object) -> None:
    """On a GPU more: there PyTorch keeps for each gathered row which sum it belongs to."""
    section = section_of(**mask_of(pooling))
    here, there = (
        DryRun(section, CATEGORIES, device=device).peak((64, 64), num_frames=2) for device in ("cpu", "cuda")
    )
    live = measured(section, (64, 64), 2)
    assert (here.num_bytes, here.part) == (pytest.approx(live.peak, rel=1e-3), live.peak_at)
    assert here.num_bytes < there.num_bytes < 1.3 * here.num_bytes


def test_mixed_precision_takes_about_half_where_maps_prevail(run: DryRun) -> None:
    float32, bfloat16 = (run.peak((512, 512), bfloat16=half) for half in (False, True))
    assert float32.part == bfloat16.part == "backbone"
    assert 0.5 < bfloat16.num_bytes / float32.num_bytes < 0.75  # the frame itself stays float32


def test_memory_grows_with_the_frames(run: DryRun) -> None:
    one, two = (run.peak((320, 320), num_frames=count).num_bytes for count in (1, 2))
    assert two == pytest.approx(2 * one, rel=0.1)


def test_a_question_twice_has_one_answer_and_autocast_is_left_as_it_was(run: DryRun) -> None:
    first, second = (run.peak((256, 256), bfloat16=True).num_bytes for _ in range(2))
    assert first == pytest.approx(second, rel=1e-3)  # the first one lays the anchors of a cell
    assert not torch.is_autocast_enabled("cuda")


def test_resnet50_has_the_flops_that_torchvision_gives_it() -> None:
    run = DryRun(section_of(backbone="resnet50"), CATEGORIES)
    assert run.flops((224, 224))["backbone"] == pytest.approx(2 * 4.09e9, rel=0.02)


def test_flops_of_heads_follow_the_shapes() -> None:
    flops = DryRun(section_of(neck={"fpn": {"channels": 16}}), CATEGORIES).flops((128, 128))
    places = 32**2 + 16**2 + 8**2 + 4**2 + 2**2
    assert flops["rpn"] == 2 * places * 16 * (16 * 9 + 3 + 12)  # a 3x3 convolution, 3 logits and 12 deltas
    regions, pooled = 20, 16 * 7 * 7
    layers = pooled * 32 + 32 * 32 + 32 * (4 + 16)  # two hidden layers; logits of 3 classes and none, deltas of each
    assert flops["box"] == 2 * regions * layers + regions * pooled * 4 * 8
    masks = 10 * 16
    convolutions = 14**2 * 9 * 16 + 14**2 * 4 * 16 + 28**2  # to 16 channels, twice the side, the logit of the own class
    assert flops["mask"] == 2 * masks * convolutions + masks * 14**2 * 4 * 8


def test_flops_of_a_mask_cascade_are_of_all_heads_and_of_what_they_tell_each_other() -> None:
    box = {**TINY_DETECTOR["box"], "cascade": {"ious": [0.6, 0.7]}}
    apart, together = (
        {"box": box, "mask": {**TINY_DETECTOR["mask"], "cascade": {"information_flow": on}}} for on in (False, True)
    )
    plain, apart, together = (
        DryRun(section_of(**parts), CATEGORIES).flops((64, 64))["mask"] for parts in ({}, apart, together)
    )
    pooled = 10 * 16 * 14**2 * 4 * 8
    assert apart - pooled == 3 * (plain - pooled)
    assert together - apart == 2 * 10 * 2 * 14**2 * 16 * 16  # a 1x1 convolution between each two of three heads


def test_flops_of_the_subnetwork_are_of_maps_and_of_crops() -> None:
    flops = DryRun(section_of(**mask_of({"subnet": {"channels": 8}})), CATEGORIES).flops((128, 128))
    masks, crops = 10, 14**2 + 28**2 + 56**2
    maps = 3 * (32**2 + 16**2 + 8**2 + 4**2) * 16 * 8  # a 1x1 convolution for each branch
    merged = masks * 14**2 * 9 * (3 * 8) * 8
    head = masks * 16 * (14**2 * 9 * 8 + 14**2 * 4 * 16 + 28**2)
    assert flops["mask"] == 2 * (maps + merged + head) + masks * crops * 8 * 8


def test_flops_of_deformable_pooling_are_of_two_readings_and_three_layers() -> None:
    box = {**TINY_DETECTOR["box"], "pooling": {"deformable": {"hidden": 24}}}
    flops, plain = (DryRun(section_of(box=one), CATEGORIES).flops((128, 128)) for one in (box, TINY_DETECTOR["box"]))
    regions, pooled = 20, 16 * 7 * 7
    layers = pooled * 24 + 24 * 24 + 24 * 3 * 7 * 7
    assert flops["box"] - plain["box"] == regions * (2 * layers + pooled * 4 * 8)


def test_a_detector_without_masks_computes_none() -> None:
    assert DryRun(section_of(mask=None), CATEGORIES).flops((64, 64))["mask"] == 0


def test_weights_need_not_be_there() -> None:
    DryRun(section_of(backbone=Choice(name="shufflenet_v2_x0_5", options={"weights": "nowhere.pth"})), CATEGORIES)


@pytest.mark.parametrize(
    ("modules", "part"),
    [
        ({"Global"}, "input"),
        ({"Global", "Detector"}, "input"),
        ({"Global", "Detector", "Detector.backbone"}, "backbone"),
        ({"Detector.neck.pyramid.inner_blocks.0"}, "neck"),
        ({"Detector.roi_heads", "Detector.roi_heads.stages.0.pool"}, "box"),
        ({"Detector.roi_heads", "Detector.roi_heads.mask_branch.head"}, "mask"),
    ],
)
def test_parts_by_their_modules(modules: set[str], part: str) -> None:
    assert part_of(modules) == part
