"""`tis-ray tune` and `tis-ray ablate` as a user runs them."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.tuning.kept_runs import Skill, write_run, write_truth
from tis_ray.cli import app
from tis_ray.config import load_ensemble
from tis_ray.views import View

ENSEMBLE = """\
# Two members.
members:
  good: {checkpoint: good, scales: [100]}   # mirrored too
  bad: {checkpoint: bad, scales: [100], flip: false}
fusion:
  # The usual.
  rules:
    - nms: {iou_threshold: 0.5}

# Nobody else may ask.
auth: none
"""


def skill(view: View) -> Skill:
    return Skill(misses=4, recall=0.3, miss_score=0.9, hit_score=0.4) if view.member == "bad" else Skill()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("command")
    (folder / "ensemble.yaml").write_text(ENSEMBLE)
    truth = write_truth(folder / "gt.json", num_images=10)
    write_run(folder / "results.run", load_ensemble(folder / "ensemble.yaml"), truth, skill)
    return folder


def run(folder: Path, command: str, *arguments: str, code: int = 0) -> str:
    paths = [str(folder / "results.run"), "--ground-truth", str(folder / "gt.json")]
    result = CliRunner().invoke(app, [command, *paths, *arguments])
    assert result.exit_code == code, result.output or result.exception
    return " ".join((result.output or str(result.exception)).split())


def test_the_file_keeps_its_comments_and_says_what_was_reached(folder: Path) -> None:
    out = folder / "tuned.yaml"
    arguments = ["--out", str(out), "--ensemble", str(folder / "ensemble.yaml"), "--search", "weights"]
    arguments += ["--metric", "box.AP", "--trials", "6", "--bootstrap", "20"]
    printed = run(folder, "tune", *arguments)
    text = out.read_text()
    assert text.startswith("# tuned: box AP ")
    assert re.search(r"held out: \+\d+\.\d\d \[.*\]; 10 images, 12 trials, 2 folds", printed)
    for comment in ("# Two members.", "# mirrored too", "# The usual.", "# Nobody else may ask."):
        assert comment in text
    members = load_ensemble(out).fusion.members
    assert members["bad"].weight < members["good"].weight
    page = (folder / "tuned.html").read_text()
    assert "What each changed part is worth" in page
    assert "fold 2, tuned without it" in printed

    again = run(folder, "tune", *arguments, "--resume")
    assert again == printed
    assert out.read_text() == text


def test_a_search_does_not_go_on_with_other_annotations(folder: Path, tmp_path: Path) -> None:
    arguments = ["--out", str(tmp_path / "tuned.yaml"), "--search", "weights", "--metric", "box.AP", "--trials", "1"]
    run(folder, "tune", *arguments)
    truth = folder / "gt.json"
    before = truth.read_text()
    truth.write_text(before + "\n")
    try:
        assert "--ground-truth: expected" in run(folder, "tune", *arguments, "--resume", code=1)
    finally:
        truth.write_text(before)


def test_ablations_are_printed_and_written(folder: Path) -> None:
    printed = run(folder, "ablate", "--boxes", "--out", str(folder / "ablation.json"))
    assert "without member bad" in printed
    rows = json.loads((folder / "ablation.json").read_text())["rows"]
    bad = next(row for row in rows if row["removed"] == "bad")
    assert bad["AP_change"]["bbox"] > 0
    assert bad["num_views"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metric", "mask"], "--metric: expected box or mask"),
        (["--search", "colours"], "--search: expected some of ranges, boost, rules"),
        (["--search", "ranges"], "--search: expected a part that can be changed; of ranges none can"),
        (["--report", "page.pdf"], "--report: expected a .html file; got page.pdf"),
    ],
)
def test_what_cannot_be_tuned_is_refused_before_the_search(folder: Path, arguments: list[str], message: str) -> None:
    assert message in run(folder, "tune", "--out", str(folder / "refused.yaml"), *arguments, code=1)
    assert not (folder / "refused.yaml.trials").exists()
