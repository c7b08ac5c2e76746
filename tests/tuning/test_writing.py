"""Tuned sections in ensemble files: what is read back is what was tuned, and nothing else has changed."""

from pathlib import Path

import pytest
import yaml

from tis_ray.config import Ensemble, FusionSection, dump, parse
from tis_ray.errors import ConfigError
from tis_ray.tuning.writing import changes, write_tuned

MEMBERS = "members:\n  a: {checkpoint: a, scales: [400, 800]}  # both\n  b: {checkpoint: b, scales: [800]}\n"
TUNED = {
    "members": {
        "a": {"weight": 0.5, "calibration": {"platt": {"slope": 1.5, "offset": 0.00001}}},
        "b": {"weight": 1.0, "calibration": {"isotonic": {"knots": [[0.1, 0.2], [0.5, 0.75]]}}},
    },
    "ranges": {"@400": [48, None], "@800": [0, 96]},
    "rules": [{"wbf": {"iou_threshold": 0.55, "confidence": "max"}}],
    "masks": {"vote": {"iou_threshold": 0.6}},
}
SEARCHED = ("members", "rare_boost", "ranges", "auto_ranges", "rules", "masks")


def section_of(fusion: object) -> FusionSection:
    return parse(Ensemble, {**yaml.safe_load(MEMBERS), "fusion": fusion}, source="test").fusion


@pytest.mark.parametrize(
    ("text", "tuned"),
    [
        ("", TUNED),
        ("fusion: tis  # the paper's\n", TUNED),
        ("fusion: lvis\n", TUNED),
        ("fusion: {preset: lvis, top_k: 50}\n", TUNED),
        ("fusion: {ranges: auto}\n", TUNED),
        ("fusion: {ranges: auto}\n", {}),
        ("fusion: {auto_ranges: {low: 0.2}, top_k: 7}\n", {"ranges": "auto"}),
        ("fusion: {preset: lvis}\n", {"preset": "lvis", "ranges": {}, "auto_ranges": {"low": 0.1, "high": 0.9}}),
        ("fusion:\n  rare_boost: {classes: [x]}\n", {}),
        ("fusion:\n  members:\n    a: {weight: 2, role: boxes}  # strong\n", {"members": {"a": {"role": "boxes"}}}),
        ("fusion: megdet\n", "megdet"),
    ],
)
def test_what_is_read_back_is_what_was_tuned(tmp_path: Path, text: str, tuned: object) -> None:
    (tmp_path / "source.yaml").write_text(f"{MEMBERS}{text}auth: none  # open\n")
    before, wanted = section_of(yaml.safe_load(text)["fusion"] if text else {}), section_of(tuned)
    after = before.model_copy(update={key: getattr(wanted, key) for key in SEARCHED})
    write_tuned(tmp_path / "source.yaml", tmp_path / "out.yaml", before, after, note=["better", "by far"])
    written = (tmp_path / "out.yaml").read_text()
    assert written.startswith("# tuned: better\n# tuned: by far\n")
    for comment in ("# both", "# open", *(["# " + text.split("# ")[1].strip()] if "#" in text else [])):
        assert comment in written
    read = dump(parse(Ensemble, yaml.safe_load(written), source="out").fusion)
    expected = dump(after)
    for key in expected.keys() - {"preset", "members"}:
        assert read[key] == expected[key], key
    for name, member in expected["members"].items():
        assert read["members"][name] == member

    write_tuned(tmp_path / "out.yaml", tmp_path / "again.yaml", after, after, note=["best"])
    assert (tmp_path / "again.yaml").read_text() == written.replace("better\n# tuned: by far", "best")


def test_changes_are_told_in_one_line_each() -> None:
    found = {key: (was, now) for key, was, now in changes(section_of({}), section_of(TUNED))}
    assert found["rules"] == ("[{nms: {iou_threshold: 0.5}}]", "[{wbf: {confidence: max, iou_threshold: 0.55}}]")
    assert found["ranges"][0] == "{}"
    assert len(found["members"][1]) <= 120
    assert changes(section_of("lvis"), section_of("lvis")) == []


def test_of_members_the_changed_keys_are_told_and_on_a_page_all_of_them() -> None:
    weighed = section_of({"members": {"a": {"weight": 0.123456789}, "b": {"weight": 0.987654321}}})
    whole = "{a: {weight: 0.123456789}, b: {weight: 0.987654321}}"
    assert changes(section_of({}), weighed) == [("members", "{}", whole)]
    assert changes(section_of({}), weighed, most=20) == [("members", "{}", f"{whole[:19]}…")]


def test_anchors_are_refused(tmp_path: Path) -> None:
    text = f"{MEMBERS}fusion:\n  members:\n    a: &same {{weight: 2}}\n    b: *same\n"
    (tmp_path / "source.yaml").write_text(text)
    before = section_of(yaml.safe_load(text)["fusion"])
    after = section_of({"members": {"a": {"weight": 1}, "b": {"weight": 2}}})
    with pytest.raises(ConfigError, match="without YAML anchors"):
        write_tuned(tmp_path / "source.yaml", tmp_path / "out.yaml", before, after, note=[])
