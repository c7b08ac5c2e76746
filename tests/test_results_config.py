"""The config of fusing results files: short forms, what entries mean for the fusion section, one line per mistake."""

from pathlib import Path

import pytest

from tis_ray.config import ResultsFiles, parse
from tis_ray.errors import ConfigError
from tis_ray.views import View


def read(content, *overrides):
    return parse(ResultsFiles, content, overrides, source="fuse.yaml")


def test_a_path_alone_is_a_file_and_a_list_is_named_by_stems():
    files = read({"results": ["runs/a.json", "b.bbox.json"]})
    assert {name: entry.file for name, entry in files.results.items()} == {
        "a": Path("runs/a.json"),
        "b.bbox": Path("b.bbox.json"),
    }
    assert read({"results": {"a": "runs/a.json", "b.bbox": {"file": "b.bbox.json"}}}) == files
    assert files.views == {"a": View("a", 0), "b.bbox": View("b.bbox", 0)}


def test_overrides_reach_entries_that_are_paths():
    files = read({"results": {"a": "a.json", "b": "b.json"}}, "results.a.weight=2", "fusion.preset=tis")
    assert files.results["a"].file == Path("a.json")
    assert files.section.members["a"].weight == 2
    assert files.section.masks.name == "average"


def test_entries_speak_for_their_member_and_scale():
    files = read(
        {
            "results": {
                "low": {"file": "a.json", "member": "resnet", "scale": 400, "weight": 2, "range": [96, None]},
                "high": {"file": "b.json", "member": "resnet", "scale": 800, "role": "boxes"},
                "mirrored": {"file": "c.json", "member": "resnet", "scale": 800, "flip": True, "range": [0, 96]},
                "other": "d.json",
            },
            "fusion": {"members": {"other": {"weight": 3}}, "ranges": {"@400": [0, 5]}},
        }
    )
    assert files.views["mirrored"] == View("resnet", 800, True)
    section = files.section
    assert {name: (member.weight, member.role) for name, member in section.members.items()} == {
        "resnet": (2, "boxes"),
        "other": (3, "both"),
    }
    assert section.ranges == {"@400": (0, 5), "resnet@400": (96, float("inf")), "resnet@800": (0, 96)}
    assert files.fusion.ranges == {"@400": (0, 5)}


def test_a_preset_s_ranges_are_those_of_the_scales_given():
    two = {"a": {"file": "a.json", "scale": 400}, "b": {"file": "b.json", "scale": 1400}}
    assert read({"results": two, "fusion": "lvis"}).section.ranges == {"@400": (96, float("inf")), "@1400": (0, 128)}


def test_paths_start_at_the_folder():
    files = read({"results": {"a": "x/a.json", "b": "/y/b.json"}}).located_in(Path("/data"))
    assert [entry.file for entry in files.results.values()] == [Path("/data/x/a.json"), Path("/y/b.json")]


A, B = {"file": "a.json"}, {"file": "b.json"}
BAD = {
    "none": ({"results": {}}, "results: .* at least 1 item"),
    "same stem": (
        {"results": ["a.json", "x/a.json"]},
        "results: expected files of different stems, their names; got a.json and x/a.json",
    ),
    "no file": ({"results": {"a": {"weight": 2}}}, "results.a.file: this key is required"),
    "misspelt": ({"results": {"a": {**A, "weigth": 2}}}, "results.a.weigth: unknown key; did you mean 'weight'"),
    "no weight": ({"results": {"a": {**A, "weight": 0}}}, "results.a.weight: .* greater than 0; got 0"),
    "no scale": ({"results": {"a": {**A, "scale": 0}}}, "results.a.scale: .* greater than 0; got 0"),
    "range upside down": ({"results": {"a": {**A, "range": [9, 3]}}}, "results.a.range: expected 0 <= low < high"),
    "name with @": ({"results": {"a@800": A}}, "results.a@800: expected a name without '@', here or under .*"),
    "member without name": (
        {"results": {"a": {**A, "member": ""}}},
        "results.a.member: .* at least 1 character; got ''",
    ),
    "same view": (
        {"results": {"a": A, "b": {**B, "member": "a"}}},
        "results.b: expected another member, scale or flip than results.a has; got the same",
    ),
    "two weights": (
        {"results": {"a": {**A, "weight": 2}, "b": {**B, "member": "a", "flip": True, "weight": 3}}},
        "results.b.weight: expected what a has in another file, 2.0; got 3.0",
    ),
    "weight twice": (
        {"results": {"a": {**A, "weight": 2}}, "fusion": {"members": {"a": {"weight": 2}}}},
        "results.a.weight: expected it either here or in fusion.members.a; got both",
    ),
    "range twice": (
        {"results": {"a": {**A, "scale": 8, "range": [0, 9]}}, "fusion": {"ranges": {"a@8": [0, 9]}}},
        "results.a.range: expected it either here or in fusion.ranges.a@8; got both",
    ),
    "unknown member": ({"results": {"a": A}, "fusion": {"members": {"b": {}}}}, "fusion.members.b: expected one of a"),
    "unknown scale": (
        {"results": {"a": {**A, "scale": 400}}, "fusion": {"ranges": {"@800": [0, 9]}}},
        "fusion.ranges.@800: expected one of @400, a@400",
    ),
    "no scales at all": (
        {"results": {"a": A}, "fusion": {"ranges": {"@800": [0, 9]}}},
        "fusion.ranges.@800: expected a scale under results",
    ),
    "ranges auto": (
        {"results": {"a": A}, "fusion": {"ranges": "auto"}},
        "fusion.ranges: expected intervals, since results files know no training sizes; got auto",
    ),
    "nameless": ({"results": {"": A}}, "results.: expected a name without '@', .*; got ''"),
    "same file": (
        {"results": {"a": A, "b": {"file": "x/../a.json"}}},
        "results.b.file: expected another file than results.a has; got x/../a.json",
    ),
    "a folder": ({"results": ["a.json", "."]}, "results: expected files; got ."),
    "no boxes": ({"results": {"a": {**A, "role": "masks"}}}, "results: expected a file whose boxes count"),
    "policy by scale": (
        {"results": {"a": {**A, "scale": 400}, "b": B}, "fusion": {"masks": "scale_ratio"}},
        "results.b.scale: expected the network input's shorter edge in px, .*scale_ratio .*; got none",
    ),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD.keys())
def test_a_mistake_is_one_line_with_its_key(content, message):
    with pytest.raises(ConfigError, match=f"^fuse.yaml: {message}") as caught:
        read(content)
    assert "\n" not in str(caught.value)
