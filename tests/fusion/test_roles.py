"""Members that cannot do what their roles ask of them are refused, by the key to change."""

import pytest

from tis_ray.config import Ensemble
from tis_ray.errors import ConfigError
from tis_ray.fusion.fuse import Fuser

MEMBERS = {name: {"checkpoint": f"runs/{name}", "scales": [800]} for name in ("a", "b")}


def build(fusion: object, *maskless: str) -> Fuser:
    ensemble = Ensemble.model_validate({"members": MEMBERS, "fusion": fusion})
    return Fuser.of(ensemble, None, sizes={}, maskless=maskless)


@pytest.mark.parametrize(
    ("fusion", "maskless", "message"),
    [
        (
            {"members": {"b": {"role": "masks"}}},
            ["b"],
            r"^fusion\.members\.b\.role: expected a member that predicts masks, .*; got masks for runs/b, whose recipe",
        ),
        ({}, ["a"], r"^members\.a: expected a member that predicts masks, as members\.b does, or role boxes under fus"),
        ({"second_pass": True}, ["a", "b"], r"^fusion\.second_pass: expected a member that predicts masks; got true"),
        (
            {"second_pass": True, "members": {"a": {"role": "boxes"}}},
            ["b"],
            r"^fusion\.second_pass: expected a member that predicts masks; got true",
        ),
    ],
)
def test_masks_that_are_asked_of_members_without_any(fusion: dict, maskless: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(fusion, *maskless)


@pytest.mark.parametrize(
    ("fusion", "maskless"),
    [
        ({}, []),
        ({}, ["a", "b"]),
        ("tis", ["a", "b"]),  # a preset's second pass is idle where there are no masks
        ({"members": {"a": {"role": "boxes"}}}, ["a"]),
        ({"members": {"b": {"role": "masks"}}}, ["a"]),  # the segmenter's masks are for all boxes
        ({"second_pass": True}, ["a"]),
        ("megdet", ["b"]),
    ],
)
def test_what_can_be_done_is_taken(fusion: object, maskless: list[str]) -> None:
    build(fusion, *maskless)
