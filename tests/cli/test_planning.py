"""`tis-ray plan` as a user calls it."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from tests.planning.made_costs import costs, ensemble
from tests.tiny import save_tiny_checkpoint
from tis_ray.cli import main
from tis_ray.config import dump_views, load_ensemble
from tis_ray.planning.costs import read_costs, write_costs

SECONDS = {"r50@600": 0.1, "r50@800": 0.2, "r50@1200": 0.7}


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and what is printed: on stderr of a mistake, else on stdout."""
    monkeypatch.setattr(sys, "argv", ["tis-ray", "plan", *arguments])
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as exit_:
        main()
    printed = capsys.readouterr()
    return exit_.value.code, printed.err if exit_.value.code else printed.out


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An ensemble without checkpoints and what it costs, in the current folder."""
    of = ensemble(r50=[600, 800, 1200])
    (tmp_path / "ensemble.yaml").write_text(yaml.safe_dump(dump_views(of)))
    write_costs(tmp_path / "costs.json", costs(of, seconds=SECONDS))
    monkeypatch.chdir(tmp_path)
    return ["ensemble.yaml", "--costs", "costs.json"]


def test_a_plan_is_told_and_written_as_an_ensemble(known, tmp_path, monkeypatch, capsys) -> None:
    code, text = run([*known, "--gpus", "4", "--memory-gb", "2.2", "--out", "planned.yaml"], monkeypatch, capsys)
    assert code == 0
    assert max(map(len, text.splitlines())) <= 80
    (row,) = [line.split() for line in text.splitlines() if line.lstrip().startswith("r50@all ")]
    assert row == ["r50@all", "600", "800", "1200", "1.000", "2.0", "4", "1", "100%"]
    assert "measured on a GPU" in text
    planned = load_ensemble("planned.yaml")
    assert planned.views == load_ensemble("ensemble.yaml").views
    assert (planned.replica("r50@all").num_replicas, planned.replica("r50@all").num_gpus) == (4, 1)
    printed = yaml.safe_load(text[text.index("\nmembers:") : text.index("\nplanned: ")])
    assert printed == {
        "members": {"r50": {"groups": {"all": [600, 800, 1200]}}},
        "replicas": {"r50@all": {"num_replicas": 4, "num_gpus": 1}},
    }


def test_costs_are_estimated_without_a_gpu_and_measured_on_a_cpu(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    save_tiny_checkpoint(tmp_path / "tiny")
    content = {"members": {"tiny": {"checkpoint": "tiny", "scales": [64, 192]}}, "fusion": {"second_pass": True}}
    (tmp_path / "ensemble.yaml").write_text(yaml.safe_dump(content))
    common = ["ensemble.yaml", "--gpus", "1", "--image-size", "96x64", "--save-costs", "costs.json"]
    code, text = run(common, monkeypatch, capsys)
    assert code == 0
    assert "are estimates from shapes" in " ".join(text.split())
    estimated = read_costs(tmp_path / "costs.json").members["tiny"]
    assert estimated.views["64"].seconds < estimated.views["192"].seconds
    assert estimated.weights_gib > 0

    code, text = run([*common, "--measure", "--repetitions", "1"], monkeypatch, capsys)
    assert code == 0
    assert "were measured on this machine's CPU, memory is estimated" in " ".join(text.split())
    measured = read_costs(tmp_path / "costs.json")
    assert (measured.seconds, measured.memory, measured.image_size) == ("measured", "estimated", "96x64")
    assert measured.members["tiny"].views["64"].gib == estimated.views["64"].gib


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpus", "2", "--memory-gb", "1"], r"view r50@600: expected at most 0.93 GiB"),
        (["--gpus", "2", "--group", "all"], "--group: expected one of auto, member, scale, written; got 'all'"),
        (["--gpus", "2", "--measure"], "--costs: expected neither --measure nor --image"),
        (["--gpus", "2", "--set", "members.r50.scales=[600,700]"], "costs.json: expected what view r50@700 costs"),
    ],
)
def test_a_mistake_is_one_line(known, arguments, message, monkeypatch, capsys) -> None:
    code, text = run([*known, *arguments], monkeypatch, capsys)
    assert code == 2
    assert len(text.splitlines()) == 1
    assert message in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "expected JSON, as --save-costs writes it"),
        ("[]", "expected an object"),
        ('{"device": "x"}', "image_size: this key is required"),
    ],
)
def test_a_file_that_holds_no_costs_is_refused(known, content, message, monkeypatch, capsys) -> None:
    Path("costs.json").write_text(content)
    code, text = run([*known, "--gpus", "1"], monkeypatch, capsys)
    assert code == 2
    assert f"error: costs.json: {message}" in text


def test_seconds_that_are_none_are_named(known, monkeypatch, capsys) -> None:
    content = json.loads(Path("costs.json").read_text())
    content["members"]["r50"]["views"]["800"]["seconds"] = 0
    Path("costs.json").write_text(json.dumps(content))
    code, text = run([*known, "--gpus", "1"], monkeypatch, capsys)
    assert code == 2
    assert "costs.json: members.r50.views.800.seconds" in text
