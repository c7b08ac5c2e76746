"""`tis-ray fuse`, and calibrating files: no PyTorch, the same bytes in every process, one line for a mistake."""

import io
import json
import os
import subprocess
import sys

import pytest
from rich.console import Console

from tests.results.files import HEIGHT, WIDTH, results_of, write, write_data
from tis_ray.results import progress

WITHOUT_TORCH = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "timm", "ray"):
            raise AssertionError(f"{name} was imported")
sys.meta_path.insert(0, Blocker())
from tis_ray.cli import main
main()
"""


def call(*arguments, cwd, hash_seed=0, command="fuse"):
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, command, *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, timeout=120, check=False,
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
    )  # fmt: skip


def test_files_and_a_yaml_that_lists_them_give_the_same_bytes_in_any_process(tmp_path):
    (tmp_path / "runs").mkdir()
    write_data(tmp_path)
    write(tmp_path / "runs/a.json", results_of(0))
    write(tmp_path / "runs/b.json", results_of(1))
    described = {"results": {"b": "b.json", "a": {"file": "a.json"}}, "fusion": {"preset": "tis"}}
    write(tmp_path / "runs/fuse.yaml", described)  # its paths start at its own folder
    quick = call(
        *("runs/a.json", "runs/b.json", "--data", "data.json", "--out", "new/one.json"),
        *("--fusion", "tis", "--set", "results.a.weight=1"),
        cwd=tmp_path, hash_seed=1,
    )  # fmt: skip
    assert quick.returncode == 0, quick.stderr
    written = (tmp_path / "new/one.json").read_bytes()
    assert quick.stdout == (f"3 images, results 36 of a, 36 of b: {len(json.loads(written))} written to new/one.json\n")
    longer = call("runs/fuse.yaml", "--data", "data.json", "--out", "two.json", cwd=tmp_path, hash_seed=2)
    assert longer.returncode == 0, longer.stderr
    assert (tmp_path / "two.json").read_bytes() == written


def test_files_are_calibrated_without_torch(tmp_path):
    found = results_of(0)
    truth = [{**one, "id": number} for number, one in enumerate(found[::3])]
    images = [{"id": id_, "file_name": f"{id_}.png", "height": HEIGHT, "width": WIDTH} for id_ in (1, 3, 5)]
    write_data(tmp_path, images=images, annotations=truth)
    write(tmp_path / "a.json", found)
    write(tmp_path / "files.yaml", {"results": {"a": "a.json"}})
    done = call("files.yaml", "--data", "data.json", cwd=tmp_path, command="calibrate")
    assert done.returncode == 0, done.stderr
    assert "calibration: {platt: {slope: " in (tmp_path / "files.calibrated.yaml").read_text()


MISTAKES = {
    "no such file": (["none.json"], "none.json: cannot be read (No such file or directory)"),
    "wrong line": (["a.json", "bad.json"], "bad.json: result 0 of image 3: score: expected a number in 0..1; got 2"),
    "wrong config": (["a.json", "--set", "fusion.rule=nms"], "results files: fusion.rule: unknown key"),
    "unknown preset": (["a.json", "--fusion", "tiss"], "fusion.preset: Input should be 'tis', 'lvis' or 'megdet'"),
    "preset that goes by scales": (["a.json", "--fusion", "lvis"], "results.a.scale: expected the network input's"),
    "a YAML among files": (["a.json", "b.yml"], "expected results files, or one YAML that lists them; got b.yml"),
    "a folder without a run": (["."], ".: expected the folder of a batch run; got"),
    "its own YAML": (
        ["c.yaml", "--out", "c.yaml"],
        "--out: expected another file than those that are read; got c.yaml",
    ),
    "no such YAML": (["b.yml"], "b.yml: expected a readable YAML file"),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_exit_2_with_one_line_and_leave_nothing(arguments, message, tmp_path, monkeypatch, capsys):
    from tis_ray.cli import main

    write_data(tmp_path)
    write(tmp_path / "a.json", results_of(0))
    write(tmp_path / "c.yaml", {"results": {"a": "a.json"}})
    write(tmp_path / "bad.json", [{**results_of(0)[-1], "score": 2}])
    before = sorted(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["tis-ray", "fuse", "--data", "data.json", "--out", "fused.json", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    told = capsys.readouterr()
    assert (exit_.value.code, told.out) == (2, "")
    assert message in told.err
    assert told.err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_progress_tells_speed_on_a_terminal_and_now_and_then_elsewhere(monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_LINE_EVERY_S", 0.0)
    file = io.StringIO()
    assert list(progress.shown_on(Console(file=file))("abc", "fusing", 3, "images")) == ["a", "b", "c"]
    lines = file.getvalue().splitlines()
    assert lines[-1].startswith("fusing: 3/3, ")
    assert lines[-1].endswith(" images/s")
    terminal = io.StringIO()
    console = Console(file=terminal, force_terminal=True, width=80)
    assert list(progress.shown_on(console)(range(250), "reading a", None, "results")) == list(range(250))
    assert "reading a" in terminal.getvalue()
    assert "results/s" in terminal.getvalue()


def test_names_are_no_markup(monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_LINE_EVERY_S", 0.0)
    for terminal in (True, False):
        file = io.StringIO()
        console = Console(file=file, force_terminal=terminal, width=80)
        assert list(progress.shown_on(console)("a", "reading [b]a[/c]", 1, "results")) == ["a"]
        assert "reading [b]a[/c]" in file.getvalue()
