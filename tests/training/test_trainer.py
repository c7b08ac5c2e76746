"""Training on a real local Ray: side by side, across workers, and through a kill."""

import io
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
import ray
import torch
import yaml
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file

from tests.training.cluster import first_worker_of, kill
from tis_ray.config import Recipe, dump, load_ensemble
from tis_ray.errors import ConfigError, DataError
from tis_ray.local_ray import start
from tis_ray.models import checkpoint
from tis_ray.training import run_folder
from tis_ray.training.position import Position
from tis_ray.training.run import run
from tis_ray.training.saving import StorageError
from tis_ray.training.trainer import LOCAL_RAY, train

# Ray Data, which Ray Train imports, warns of its own settings.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")

JOBS = Path(__file__).parents[2] / "jobs"
JOB = JOBS / "train.py"


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """A Ray of four CPUs for the tests of this file, unless the process has one."""
    if ray.is_initialized():
        yield
        return
    start(num_cpus=4, runtime_env={"env_vars": LOCAL_RAY})
    yield
    ray.shutdown()


def test_nothing_to_train_and_equal_names_are_refused(make_recipe):
    with pytest.raises(ConfigError, match="recipes: expected at least one"):
        train([])
    with pytest.raises(ConfigError, match=r"name: .* got twice: toy"):
        train([make_recipe(), make_recipe()])


@pytest.mark.parametrize("count", [-1, 1.5])
def test_shares_of_gpus_that_ray_cannot_give_are_refused_when_read(make_recipe, count):
    with pytest.raises(ConfigError, match=r"resources\.gpus_per_worker: expected .* whole number"):
        make_recipe("toy", f"resources.gpus_per_worker={count}")


def test_missing_annotations_are_refused_before_ray_starts(make_recipe):
    recipe = make_recipe("toy", "data.val.annotations=nowhere.json")
    with pytest.raises(ConfigError, match=r"^data\.val\.annotations: .*nowhere\.json"):
        train([recipe])
    assert not recipe.run_dir.exists()


def test_a_used_folder_stops_all_recipes_before_any_begins(make_recipe):
    used, fresh = make_recipe("used"), make_recipe("fresh")
    (used.run_dir / "checkpoint_000001").mkdir(parents=True)
    with pytest.raises(ConfigError, match="already holds a run"):
        train([fresh, used])
    assert not fresh.run_dir.exists()


def test_a_start_that_is_no_checkpoint_is_refused_unless_another_run_makes_it(make_recipe, tmp_path):
    tuned = make_recipe("tuned", f"start.checkpoint={tmp_path / 'runs' / 'base' / 'checkpoint'}")
    with pytest.raises(ConfigError, match=r"start\.checkpoint: expected the folder of a checkpoint; got .*base/check"):
        train([tuned])
    with pytest.raises(ConfigError, match=r"data\.train\.annotations"):  # the start is no longer what is wrong
        train([tuned, make_recipe("base", "data.train.annotations=nowhere.json")])


@pytest.fixture
def broken_folder(rectangles: Path, tmp_path: Path) -> Path:
    """The pictures with the last one cut short."""
    folder = tmp_path / "broken"
    folder.mkdir()
    for file in rectangles.parent.glob("*.png"):
        (folder / file.name).write_bytes(file.read_bytes())
    Image.effect_noise((96, 64), 50).convert("RGB").save(folder / "7.png")
    data = (folder / "7.png").read_bytes()
    (folder / "7.png").write_bytes(data[: len(data) // 2])
    return folder


@pytest.mark.ray
def test_recipes_train_side_by_side_and_one_failure_leaves_the_others_be(
    make_recipe, rectangles, broken_folder, local_ray
):
    validated = (f"data.val={{annotations: '{rectangles}'}}", "schedule.epochs=3")
    first, second = make_recipe("first", *validated), make_recipe("second", "seed=1", "detector.mask=null")
    bad = make_recipe("bad", f"data.train={{annotations: '{rectangles}', images: '{broken_folder}'}}")
    told, seen = [], io.StringIO()
    with pytest.raises(DataError, match=r"^bad: .*7\.png") as caught:
        train([first, bad, second], on_progress=told.append, console=Console(file=seen, width=400))
    assert "\n" not in str(caught.value)
    assert str(caught.value) in seen.getvalue().splitlines()
    assert "going on" not in seen.getvalue()  # a mistake is not tried again
    assert {progress.recipe for progress in told} >= {"first", "second"}
    for recipe, names in ((first, ("000002", "000003")), (second, ("000001", "000002"))):
        kept = sorted(path.name for path in recipe.run_dir.glob("checkpoint_0*"))
        assert kept == [f"checkpoint_{name}" for name in names]
        assert list((recipe.run_dir / "tensorboard").glob("events*"))
    assert not run_folder.finished(bad.run_dir)

    before = (first.run_dir / "checkpoint").stat().st_mtime_ns
    folders = train([first, second], resume=True)  # both are finished
    assert folders == [first.run_dir / "checkpoint", second.run_dir / "checkpoint"]
    assert (first.run_dir / "checkpoint").stat().st_mtime_ns == before
    detector, trained, categories = checkpoint.load(folders[0])
    assert categories.names == ("red", "blue")
    assert trained.name == "first"
    assert not detector.training
    (view,) = load_ensemble(folders[0]).views  # what the recipe says of no test
    assert (view.member, view.scale, view.flip) == ("first", trained.data.scales[-1], False)
    metrics = yaml.safe_load((folders[0] / "metrics.json").read_text())
    assert metrics["epoch"] == 3
    assert {"box_ap", "mask_ap", "loss"} <= metrics.keys()


@pytest.mark.ray
def test_a_run_whose_worker_is_killed_ends_with_the_same_bits(make_recipe, local_ray):
    schedule = ("schedule.epochs=4", "schedule.checkpoint_every_iterations=3")
    whole, cut = make_recipe("whole", *schedule), make_recipe("cut", *schedule)
    run(whole)
    told, killed = io.StringIO(), []

    def strike(progress):
        if progress.step >= 5 and not killed:
            killed.append(first_worker_of(cut))
            kill(killed[0])

    train([cut], on_progress=strike, console=Console(file=told, width=400))
    assert killed
    assert "going on" in told.getvalue()
    ended, other = (load_file(run_folder.newest(one.run_dir)[0] / "model.safetensors") for one in (cut, whole))
    assert ended.keys() == other.keys()
    assert [key for key in ended if not torch.equal(ended[key], other[key])] == []


@pytest.mark.ray
@pytest.mark.slow
def test_storage_that_takes_no_more_ends_the_run_and_the_last_checkpoint_is_kept(make_recipe, local_ray):
    recipe, seen, limited = make_recipe("toy", "schedule.epochs=1000000"), io.StringIO(), []

    def fill(progress):
        if progress.epoch >= 1 and not limited:
            limited.append(first_worker_of(recipe))
            most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.prlimit(limited[0], resource.RLIMIT_FSIZE, (2**16, most))

    with pytest.raises(
        StorageError, match=r"^toy: output: nothing more can be written to .*: File too large; .* --resume"
    ):
        train([recipe], on_progress=fill, console=Console(file=seen, width=400))
    assert "going on" not in seen.getvalue()
    folder, position = run_folder.newest(recipe.run_dir)
    assert position.epochs >= 1
    checkpoint.load(folder)
    assert not list(recipe.run_dir.glob(".partial*"))


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_waits_for_the_checkpoint_that_it_begins_from(make_recipe, rectangles, broken_folder, local_ray):
    def after(name: str, base: Recipe) -> Recipe:
        return make_recipe(name, "schedule.epochs=1", f"start.checkpoint={base.run_dir / 'checkpoint'}")

    base = make_recipe("base", "schedule.epochs=1")
    bad = make_recipe("bad", f"data.train={{annotations: '{rectangles}', images: '{broken_folder}'}}")
    tuned = after("tuned", base)
    never = after("never", after("neither", bad))
    told = io.StringIO()
    with pytest.raises(DataError, match=r"^bad: .*7\.png"):
        train([never, after("neither", bad), tuned, bad, base], console=Console(file=told, width=400))
    lines = told.getvalue().splitlines()
    assert {"tuned: waiting for base", "never: waiting for neither", "neither: waiting for bad"} <= set(lines)
    assert "neither: not begun, for bad has failed" in lines
    assert "never: not begun, for neither has failed" in lines
    assert any(line.startswith("tuned: begins with weights of") for line in lines)
    assert run_folder.finished(tuned.run_dir)
    assert not run_folder.finished(never.run_dir)
    _, recipe, _ = checkpoint.load(tuned.run_dir / "checkpoint")
    assert recipe.start.checkpoint == base.run_dir / "checkpoint"


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()], ids=["error", "ctrl-c"])
def test_an_error_while_watching_stops_the_run(make_recipe, local_ray, error):
    recipe = make_recipe("toy", "schedule.epochs=1000000")
    free = ray.available_resources().get("CPU")  # others may work on the same Ray

    def fail(progress):
        if progress.step:
            raise error

    with pytest.raises(type(error)):
        train([recipe], on_progress=fail)
    end = time.monotonic() + 20
    while True:  # its worker holds the folder until it has ended
        try:
            with run_folder.locked(recipe.run_dir, starting=True):
                break
        except ConfigError:
            assert time.monotonic() < end, "the run goes on"
            time.sleep(0.1)
    while ray.available_resources().get("CPU", 0) < free:
        assert time.monotonic() < end, "the run keeps its CPU"
        time.sleep(0.1)


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_weights_and_two_workers_finish(make_recipe, local_ray, tmp_path):
    epochs = "schedule.epochs=30"
    whole, cut = make_recipe("whole", epochs), make_recipe("cut", epochs)
    pair = make_recipe("pair", "resources.workers=2")
    killed = _start_job(cut, tmp_path)
    try:
        _wait_for(cut.run_dir / "checkpoint_000001", killed)
        time.sleep(0.2)  # somewhere in the second epoch or soon after
    finally:
        _kill_session(killed)
    done = run_folder.newest(cut.run_dir)
    assert done is not None
    assert 1 <= done[1].epochs < 30
    paths = train([whole, pair])
    paths += train([cut], resume=True)
    ended, after_resume = (load_file(path / "model.safetensors") for path in (paths[0], paths[2]))
    assert ended.keys() == after_resume.keys()
    assert [key for key in ended if not torch.equal(ended[key], after_resume[key])] == []
    assert run_folder.newest(pair.run_dir) == (pair.run_dir / "checkpoint_000002", Position(epochs=2))
    assert all(torch.isfinite(value).all() for value in load_file(paths[1] / "model.safetensors").values())


def _start_job(recipe: Recipe, folder: Path) -> subprocess.Popen[bytes]:
    file = folder / f"{recipe.name}.yaml"
    file.write_text(yaml.safe_dump(dump(recipe)))
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    return subprocess.Popen([sys.executable, JOB, file], env=environment, start_new_session=True)


def _wait_for(path: Path, process: subprocess.Popen[bytes], *, timeout_s: float = 300) -> None:
    end = time.monotonic() + timeout_s
    while not path.exists():
        assert process.poll() is None, f"the job ended with {process.returncode}"
        assert time.monotonic() < end, f"no {path.name} within {timeout_s} s"
        time.sleep(0.02)


def _kill_session(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the job, then to whatever of its own Ray has outlived it."""
    process.kill()
    process.wait()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(ProcessLookupError):
                if os.getsid(int(entry.name)) == process.pid:
                    os.kill(int(entry.name), signal.SIGKILL)


@pytest.mark.ray
@pytest.mark.slow
def test_a_chain_of_recipes_trains_one_after_the_other(make_recipe, tmp_path):
    recipes = [make_recipe(name, "schedule.epochs=1") for name in ("base", "middle", "tuned")]
    files = [tmp_path / f"{recipe.name}.yaml" for recipe in recipes]
    for file, recipe in zip(files, recipes, strict=True):
        file.write_text(yaml.safe_dump(dump(recipe)))
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    command = [sys.executable, JOBS / "finetune.py", *reversed(files)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    for recipe, base in pairwise(recipes):
        assert f"{recipe.name}: begins with weights of {base.run_dir / 'checkpoint'}" in ended.stdout


def test_the_job_script_tells_a_mistake_in_one_line(tmp_path):
    ended = subprocess.run([sys.executable, JOB, tmp_path / "no.yaml"], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1
    assert "no.yaml" in ended.stderr
