"""The command line as a user meets it: help, exit codes, one clear line for a mistake, no traceback."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.tiny import tiny_recipe
from tis_ray.cli import main
from tis_ray.config import dump


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    code = "from tis_ray.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=cwd, timeout=120, check=False
    )


@pytest.mark.parametrize(
    "command",
    [
        "scenes",
        "train",
        "import",
        "serve",
        "segment",
        "predict",
        "fuse",
        "convert",
        "evaluate",
        "calibrate",
        "tune",
        "ablate",
        "compare",
        "anchors",
        "demo",
        "models",
        "inspect",
        "jobs",
        "stop",
    ],
)
def test_every_command_has_help_with_an_example(command: str) -> None:
    answer = run(command, "--help")
    assert answer.returncode == 0, answer.stderr
    assert f"tis-ray {command}" in answer.stdout
    assert "xample:" in answer.stdout


MISTAKES = {
    "unknown command": (["tarin"], "No such command 'tarin'"),
    "unknown recipe": (["train", "tiny_resnet81"], "expected a YAML file or one of"),
    "unknown recipe key": (["train", "tiny_resnet18", "--set", "schedule.epoch=3"], "did you mean 'epochs'"),
    "misspelt part": (
        ["train", "tiny_resnet18", "--set", "detector.backbone=resnet81"],
        "detector.backbone: expected one of",
    ),
    "no data": (["train", "bare.yaml"], "data.train: expected what tiny is to be trained on"),
    "unknown network": (
        ["import", "maskrcnn", "w.pth", "--out", "o"],
        "network: expected one of maskrcnn_resnet50_fpn",
    ),
    "missing weights": (["import", "maskrcnn_resnet50_fpn", "w.pth", "--out", "o"], "readable state dict in w.pth"),
    "import over something": (
        ["import", "maskrcnn_resnet50_fpn", "w.pth", "--out", "."],
        "--out: expected a new or empty folder",
    ),
    "missing data": (["train", "tiny_resnet18"], "data.train.annotations: expected a COCO JSON file"),
    "missing ensemble": (["serve", "nowhere.yaml"], "nowhere.yaml: expected a readable YAML file"),
    "unknown ensemble key": (["predict", "bad.yaml", "--images", ".", "--out", "x.json"], "member: unknown key"),
    "bad size": (["scenes", "--out", "s", "--size", "big"], "--size: expected WIDTHxHEIGHT"),
    "bad preset": (["scenes", "--out", "s", "--preset", "moon"], "preset: expected"),
    "missing results": (
        ["evaluate", "--ground-truth", "gt.json", "--predictions", "none.json"],
        "none.json",
    ),
    "unknown metric": (
        ["evaluate", "--ground-truth", "gt.json", "--predictions", "x", "--metric", "voc"],
        "--metric: expected one of coco, lvis, wad-kaggle, wad-coco, proposals; got 'voc'",
    ),
    "unknown format": (
        ["predict", "good.yaml", "--images", ".", "--out", "x.json", "--format", "voc"],
        "--format: expected one of annotations, coco, ",
    ),
    "option of another format": (
        ["predict", "good.yaml", "--images", ".", "--out", "x.json", "--disjoint"],
        "--disjoint: expected a format that knows it, as wad; got coco",
    ),
    "no cluster named": (["jobs"], "address: expected that of Ray's dashboard, as http://HEAD:8265; got ''"),
    "no dashboard there": (
        ["stop", "job", "--address", "http://127.0.0.1:9"],
        "address: expected a Ray cluster's dashboard at http://127.0.0.1:9; got [Errno 111] Connection refused",
    ),
    "no dashboard to send to": (["train", "trains.yaml", "--submit", "http://127.0.0.1:9"], "expected a Ray cluster's"),
    "storage of no cluster": (["train", "trains.yaml", "--storage", "/x"], "--storage: expected --submit beside it"),
    "code for no cluster": (
        ["train", "trains.yaml", "--working-dir", "."],
        "--working-dir: expected --submit beside it",
    ),
    "nobody serves": (
        ["segment", "good.yaml", "--url", "http://127.0.0.1:9"],
        "http://127.0.0.1:9: expected a tis-ray service; nobody listens there",
    ),
    "no address": (["segment", "good.yaml", "--url", "127.0.0.1:9"], "url: expected the address of a service as http:"),
    "no such image": (["segment", "x.jpg"], "images: expected files, folders or globs; got x.jpg"),
    "nothing to go on with": (["segment", "good.yaml", "--resume"], "--resume: expected --out beside it"),
    "unknown format of answers": (
        ["segment", "good.yaml", "--out", "x.json", "--format", "voc"],
        "--format: expected one of json, jsonl, coco; got 'voc'",
    ),
    "port out of range": (["serve", "bad.yaml", "--port", "99999"], "less than or equal to 65535"),
    "scenes nowhere": (["scenes", "--out", "gt.json/s"], "error: gt.json/s/images: Not a directory"),
    "demo nowhere": (["demo", "--out", "gt.json/d"], "error: gt.json/d: Not a directory"),
    "runs nowhere": (["train", "trains.yaml", "--set", "output=gt.json/runs"], "gt.json/runs/tiny: Not a directory"),
    "figures nowhere": (
        ["evaluate", "--ground-truth", "gt.json", "--predictions", "x.json", "--out", "gt.json/y/z.json"],
        "error: gt.json/y: Not a directory",
    ),
    "answers nowhere": (["segment", "x.jpg", "--out", "gt.json/y/z.json"], "error: gt.json/y: Not a directory"),
    "answers over a folder": (["segment", "x.jpg", "--out", "."], "--out: expected a file; . is a folder"),
    "unknown picture format": (["segment", "x.jpg", "--overlay", "y.xyz"], "--overlay: expected a folder or a file of"),
    "demo data without a JSON": (["demo", "--data", "nowhere"], "expected a COCO JSON such as instances_train.json"),
}


def run_here(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What `tis-ray` says on stderr before it exits with code 2, in this process, which imports everything but once."""
    monkeypatch.setattr(sys, "argv", ["tis-ray", *arguments])
    monkeypatch.setenv("RAY_ENABLE_AUTO_CONNECT", "0")
    with pytest.raises(SystemExit) as exit_:
        main()
    told = capsys.readouterr().err
    assert exit_.value.code == 2, told
    return told


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_exit_2_with_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "good.yaml").write_text("members: {a: {checkpoint: c, scales: [32]}}\n")
    (tmp_path / "bad.yaml").write_text("members: {a: {checkpoint: c, scales: [32]}}\nmember: {}\n")
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "car"}]}
    (tmp_path / "gt.json").write_text(json.dumps(content))
    recipe = tiny_recipe(data={"train": {"annotations": "gt.json"}})
    (tmp_path / "trains.yaml").write_text(yaml.safe_dump(dump(recipe)))
    (tmp_path / "bare.yaml").write_text(yaml.safe_dump(dump(recipe) | {"data": None}))
    monkeypatch.chdir(tmp_path)
    told = run_here(arguments, monkeypatch, capsys)
    assert message in " ".join(told.split())
    assert "Traceback" not in told


def test_paths_off_a_terminal_stay_on_one_line_as_they_are(tmp_path: Path) -> None:
    folder = "[red]" + "long" * 30
    answer = run("scenes", "--out", folder, "--images", "2", "--size", "64x64", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert folder in answer.stdout
    answer = run("train", f"{folder}.yaml", cwd=tmp_path)
    assert f"error: {folder}.yaml: expected" in answer.stderr


def test_scenes_and_evaluate_work_together(tmp_path: Path) -> None:
    made = run("scenes", "--out", "scenes", "--images", "4", "--size", "128x96", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    truth = json.loads((tmp_path / "scenes/instances_val.json").read_text())
    results = [
        {key: entry[key] for key in ("image_id", "category_id", "bbox", "segmentation")} | {"score": 0.9}
        for entry in truth["annotations"]
    ]
    (tmp_path / "results.json").write_text(json.dumps(results))
    scored = run(
        "evaluate",
        *("--ground-truth", "scenes/instances_val.json", "--predictions", "results.json", "--out", "scores.json"),
        cwd=tmp_path,
    )
    assert scored.returncode == 0, scored.stderr
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["bbox"]["AP"] == pytest.approx(1)
    assert scores["segm"]["AP"] == pytest.approx(1)


def test_importing_the_package_is_cheap() -> None:
    code = "import sys, tis_ray, tis_ray.cli; print([m for m in ('torch', 'ray', 'numba', 'PIL') if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
