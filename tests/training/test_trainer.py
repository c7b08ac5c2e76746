"""Training on a real local Ray: side by side, across workers, and through a kill."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import ray
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from tis_ray.config import Recipe, dump, load_ensemble
from tis_ray.errors import ConfigError, DataError
from tis_ray.local_ray import start
from tis_ray.models import checkpoint
from tis_ray.training import run_folder
from tis_ray.training.trainer import LOCAL_RAY, train

# Ray Data, which Ray Train imports, warns of its own settings.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")

JOB = Path(__file__).parents[2] / "jobs" / "train.py"


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
    told = []
    with pytest.raises(DataError, match=r"^bad: .*7\.png") as caught:
        train([first, bad, second], on_progress=told.append)
    assert "\n" not in str(caught.value)
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
    assert 1 <= done[1] < 30
    paths = train([whole, pair])
    paths += train([cut], resume=True)
    ended, after_resume = (load_file(path / "model.safetensors") for path in (paths[0], paths[2]))
    assert ended.keys() == after_resume.keys()
    assert [key for key in ended if not torch.equal(ended[key], after_resume[key])] == []
    assert run_folder.newest(pair.run_dir) == (pair.run_dir / "checkpoint_000002", 2)
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


def test_the_job_script_tells_a_mistake_in_one_line(tmp_path):
    ended = subprocess.run([sys.executable, JOB, tmp_path / "no.yaml"], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1
    assert "no.yaml" in ended.stderr
