"""`tis-ray models` and `tis-ray inspect` as a user calls them."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from tests.tiny import tiny_recipe
from tis_ray.cli import main
from tis_ray.config import dump
from tis_ray.menu import choices


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and what is printed: on stderr of a mistake, else on stdout."""
    monkeypatch.setattr(sys, "argv", ["tis-ray", *arguments])
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as exit_:
        main()
    printed = capsys.readouterr()
    return exit_.value.code, printed.err if exit_.value.code else printed.out


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(dump(tiny_recipe())))
    return "tiny.yaml"


def test_models_lists_every_part_under_its_key(monkeypatch, capsys) -> None:
    code, text = run(["models"], monkeypatch, capsys)
    assert code == 0
    assert "necks  (detector.neck)" in text
    assert "fpn *" in text
    names = {word for line in text.splitlines() for word in line.split()[:1]}
    assert set(choices("tis_ray.models.backbones")) <= names
    assert max(map(len, text.splitlines())) <= 80


def test_models_shows_the_options_of_a_part(monkeypatch, capsys) -> None:
    code, text = run(["models", "exact"], monkeypatch, capsys)
    assert code == 0
    assert "exact  anchors (detector.anchors)" in text
    (line,) = [line for line in text.splitlines() if "aspect_ratios" in line]
    assert line.split() == ["aspect_ratios", "list", "of", "number", ">", "0", "[0.5,", "1.0,", "2.0]"]


def test_models_speaks_json(monkeypatch, capsys) -> None:
    parts = json.loads(run(["models", "--json"], monkeypatch, capsys)[1])
    assert {"name": "fpn", "menu": "necks", "key": "detector.neck", "default": True}.items() <= next(
        part for part in parts if part["name"] == "fpn"
    ).items()
    (part,) = json.loads(run(["models", "pyramid", "--json"], monkeypatch, capsys)[1])
    options = {option["name"]: option for option in part["options"]}
    assert options["aspect_ratios"]["default"] == [0.5, 1.0, 2.0]
    assert options["aspect_ratios"]["schema"]["type"] == "array"


def test_inspect_takes_overrides_scales_and_sizes(recipe, monkeypatch, capsys) -> None:
    options = ["--set", "detector.mask=null", "--scale", "64", "--scale", "96", "--image", "200x100", "--classes", "3"]
    code, text = run(["inspect", recipe, *options], monkeypatch, capsys)
    assert code == 0
    assert "tiny: 3 classes; images of 200x100" in text
    rows = [line.split()[:2] for line in text.splitlines() if "x64" in line or "x96" in line]
    assert rows == 2 * [["64", "128x64"], ["96", "192x96"]]  # of what each computes, and of what it holds


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["models", "resnet5"], "did you mean 'resnet50'", id="unknown part"),
        pytest.param(["inspect", "tiny_resnet81"], "expected a YAML file or one of", id="unknown recipe"),
        pytest.param(["inspect", "RECIPE", "--image", "big"], "--image: expected WIDTHxHEIGHT", id="bad size"),
        pytest.param(["inspect", "RECIPE", "--image", "0x10"], "--image: expected WIDTHxHEIGHT", id="no width"),
        pytest.param(["inspect", "RECIPE", "--scale", "0"], "greater than or equal to 1", id="bad scale"),
        pytest.param(
            ["inspect", "RECIPE", "--set", "detector.anchors=pyramid", "--set", "detector.neck=c4"],
            "detector.anchors: expected anchors other than pyramid",
            id="parts that do not go together",
        ),
        pytest.param(
            ["inspect", "RECIPE", "--set", "data=null", "--training"],
            "--training: expected a recipe with data",
            id="step",
        ),
    ],
)
def test_mistakes_are_told_in_a_line(arguments, message, recipe, monkeypatch, capsys) -> None:
    code, text = run([recipe if one == "RECIPE" else one for one in arguments], monkeypatch, capsys)
    assert code == 2
    assert message in " ".join(text.split())
    assert "Traceback" not in text
