"""Choices are all listed, and every weight is counted in one part."""

from pathlib import Path

import pytest
import torch

from tests.tiny import CATEGORIES, TINY_DETECTOR, save_tiny_checkpoint, tiny_recipe
from tis_ray.config import Choice, DetectorSection
from tis_ray.inspection.assembled import choices_of, sizes_of, weights_notes
from tis_ray.inspection.parts import MENUS
from tis_ray.models.assembly import build_detector

C4 = {"neck": "c4", "anchors": {"exact": {"sizes": [[8, 16]]}}}


def section_of(**parts: object) -> DetectorSection:
    return DetectorSection.model_validate({**TINY_DETECTOR, **parts})


def test_every_choice_is_listed_and_of_the_others_what_the_recipe_sets() -> None:
    listed = {one.key: (one.name, one.options) for one in choices_of(section_of(pixel_mean=[0, 0, 0]))}
    assert {menu.key for menu in MENUS if menu.key.startswith("detector.")} <= set(listed)
    assert listed["detector.neck"] == ("fpn", {"channels": 16})
    assert listed["detector.roi_levels"] == ("fpn", {})
    assert listed["detector.rpn"] == (
        "", {"samples_per_image": 32, "pre_nms_top_n_test": 50, "post_nms_top_n_test": 20}
    )  # fmt: skip
    assert listed["detector"] == ("", {"pixel_mean": [0, 0, 0]})
    assert "detector.box.cascade" not in listed


def test_a_part_left_out_is_none() -> None:
    listed = {one.key: one.name for one in choices_of(section_of(mask=None))}
    assert listed["detector.mask"] == "none"


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param({}, id="plain"),
        pytest.param(C4 | {"backbone": {"resnet18": {"norm": "frozen"}}}, id="shared stage"),
        pytest.param({"box": {"cascade": {}, "context": {}}, "mask": None}, id="cascade"),
        pytest.param({"stuff": {"channels": 8}}, id="stuff"),
    ],
)
def test_every_number_of_a_checkpoint_is_counted_once(parts: dict[str, object]) -> None:
    with torch.device("meta"):
        detector = build_detector(section_of(**parts), CATEGORIES)
    sizes = sizes_of(detector)
    kept = [tensor for tensor in detector.state_dict().values() if tensor.is_floating_point()]
    assert sum(one.trained for one in sizes) == sum(one.numel() for one in detector.parameters())
    assert sum(one.trained + one.others for one in sizes) == sum(tensor.numel() for tensor in kept)
    assert sum(one.num_bytes for one in sizes) == sum(tensor.nbytes for tensor in kept)
    assert ("mask" in {one.part for one in sizes}) == (parts.get("mask", True) is not None)
    assert ("stuff" in {one.part for one in sizes}) == ("stuff" in parts)


def test_numbers_that_training_leaves_are_told_apart() -> None:
    with torch.device("meta"):
        detector = build_detector(section_of(backbone={"resnet18": {"norm": "frozen"}}), CATEGORIES)
    detector.neck.requires_grad_(False)
    sizes = {one.part: one for one in sizes_of(detector)}
    assert sizes["neck"].trained == 0
    assert sizes["neck"].others == sum(one.numel() for one in detector.neck.parameters())
    normed = 64 * 5 + 128 * 5 + 256 * 5 + 512 * 5  # after the stem and the eight blocks' convolutions and shortcuts
    assert sizes["backbone"].others == 4 * normed  # a scale, a shift, a mean and a variance each


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    there = tmp_path / "weights.pth"
    there.touch()

    def notes(weights: str | None, **parts: object) -> list[str]:
        backbone = Choice(name="resnet18", options={"weights": weights})
        recipe = tiny_recipe(**parts)
        return weights_notes(recipe.model_copy(update={"detector": section_of(backbone=backbone)}))

    assert notes(None) == notes(str(there)) == []
    assert "nowhere.pth is not there" in notes("nowhere.pth")[0]
    assert "IMAGENET1K_V1 is a library's name" in notes("IMAGENET1K_V1")[0]
    assert "is not there" in notes(None, start={"checkpoint": str(tmp_path / "none")})[0]
    assert notes(None, start={"checkpoint": str(save_tiny_checkpoint(tmp_path / "checkpoint"))}) == []
