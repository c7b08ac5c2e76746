"""Calibrations get into a file, and everything else in it stays: comments, order, quotes, indentation."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.calibration.scenes import ENSEMBLE
from tis_ray.calibration.fitting import MemberFit
from tis_ray.calibration.writing import check_rewritable, write_calibrated
from tis_ray.config import Choice, load_ensemble
from tis_ray.errors import ConfigError

NONE = np.zeros(0, dtype=np.float32)
PLATT = {"platt": {"slope": 1.25, "offset": -1e-05}}
CURVE = {"isotonic": {"knots": [[0.0, 0.0], [1e-06, 0.5], [1.0, 1.0]]}}


def fit(calibration=None, **of_class):
    def choice(part):
        ((name, options),) = part.items()
        return Choice(name=name, options=options)

    classes = {name: choice(part) for name, part in of_class.items()}
    return MemberFit(calibration and choice(calibration), classes, "", {}, NONE, NONE, NONE.astype(bool))


def rewritten(folder: Path, text: str, **fits) -> str:
    (folder / "in.yaml").write_text(text)
    write_calibrated(folder / "in.yaml", folder / "out.yaml", fits)
    assert (folder / "in.yaml").read_text() == text
    return (folder / "out.yaml").read_text()


def test_what_is_new_is_added_and_the_rest_stays(tmp_path):
    out = rewritten(tmp_path, ENSEMBLE, one=fit(PLATT, car=CURVE), two=fit(CURVE))
    added = """\
  members:
    one:
      calibration: {platt: {slope: 1.25, offset: -1.0e-05}}
      class_calibration: {car: {isotonic: {knots: [[0.0, 0.0], [1.0e-06, 0.5], [1.0, 1.0]]}}}
    two:
      calibration: {isotonic: {knots: [[0.0, 0.0], [1.0e-06, 0.5], [1.0, 1.0]]}}
"""
    assert out == ENSEMBLE.replace("  rules:", f"{added}  rules:")


def test_what_is_written_is_read(tmp_path):
    rewritten(tmp_path, ENSEMBLE, one=fit(PLATT, car=CURVE))
    (member,) = load_ensemble(tmp_path / "out.yaml").fusion.members.values()
    assert member.calibration == Choice(name="platt", options=PLATT["platt"])
    assert member.class_calibration == {"car": Choice(name="isotonic", options=CURVE["isotonic"])}


FILES = {
    "no fusion": ("members: {one: 1}   # own\n# end\n", {}),
    "an empty fusion": ("members: {one: 1}\nfusion:\n", {}),
    "a preset by name": ("members: {one: 1}\nfusion: tis   # as published\n\n# Who:\nauth: none\n", {"preset": "tis"}),
    "a preset in one line": ("fusion: {preset: tis, top_k: 5}   # as published\n", {"preset": "tis", "top_k": 5}),
    "four spaces": ("members:\n    one:\n        scales:\n        -   64\nfusion:\n    top_k: 5\n", {"top_k": 5}),
    "quotes": ("members: {'one': \"1\"}\nfusion:\n  \"top_k\": 5\n# after\nauth: 'none'\n", {"top_k": 5}),
}  # fmt: skip


@pytest.mark.parametrize(("text", "rest"), FILES.values(), ids=FILES)
def test_files_of_every_shape(tmp_path, text, rest):
    out = rewritten(tmp_path, text, one=fit(PLATT))
    content, before = yaml.safe_load(out), yaml.safe_load(text)
    assert content == before | {"fusion": {**rest, "members": {"one": {"calibration": PLATT}}}}
    lines = [line for line in text.splitlines() if not line.startswith("fusion")]
    assert [line for line in out.splitlines() if line in lines] == lines  # comments too, in their order


def test_a_comment_behind_a_preset_stays_behind_it(tmp_path):
    out = rewritten(tmp_path, "fusion: tis   # as published\n\n# Who:\nauth: none\n", one=fit(PLATT))
    assert out.endswith("  preset: tis # as published\n\n# Who:\nauth: none\n")


AGAIN = """\
fusion:
  top_k: 5
  members:
    # The best one.
    one:
      calibration: {temperature: {temperature: 3.0}}   # by hand
      weight: 2.0   # twice
    two:
      class_calibration: {bus: temperature}
      role: boxes

# Who:
auth: none
"""


def test_a_second_time_replaces_what_was_there(tmp_path):
    out = rewritten(tmp_path, AGAIN, one=fit(PLATT), two=fit())
    expected = AGAIN.replace("{temperature: {temperature: 3.0}}  ", "{platt: {slope: 1.25, offset: -1.0e-05}}")
    assert out == expected.replace("      class_calibration: {bus: temperature}\n", "")


def test_a_member_that_was_not_fitted_gets_no_section(tmp_path):
    assert yaml.safe_load(rewritten(tmp_path, ENSEMBLE, one=fit(), two=fit(PLATT)))["fusion"]["members"].keys() == {
        "two"
    }


def test_the_file_itself_may_be_written_over(tmp_path):
    path = tmp_path / "ensemble.yaml"
    path.write_text(ENSEMBLE)
    write_calibrated(path, path, {"one": fit(PLATT)})
    assert [file.name for file in tmp_path.iterdir()] == ["ensemble.yaml"]
    assert "platt" in path.read_text()


def test_members_that_share_an_anchor_are_refused(tmp_path):
    text = "fusion:\n  members:\n    one: &same {weight: 2}\n    two: *same\n"
    message = r"in\.yaml: expected members that stand for themselves; got YAML anchors"
    with pytest.raises(ConfigError, match=message):
        rewritten(tmp_path, text, one=fit(PLATT), two=fit(CURVE))
    assert not (tmp_path / "out.yaml").exists()
    with pytest.raises(ConfigError, match=message):
        check_rewritable(tmp_path / "in.yaml", ["one", "two"])


def test_anchors_elsewhere_are_kept(tmp_path):
    text = "members:\n  one: &one {flip: true}\n  two:\n    <<: *one\n    top: 1\n"
    assert rewritten(tmp_path, text, one=fit(PLATT)).startswith(text)


def test_a_key_that_is_there_twice_is_refused(tmp_path):
    (tmp_path / "in.yaml").write_text("quorum: 1\nquorum: 2\n")
    with pytest.raises(ConfigError, match=r"in\.yaml: expected YAML without doubles; got .*duplicate key"):
        check_rewritable(tmp_path / "in.yaml", ["one"])
