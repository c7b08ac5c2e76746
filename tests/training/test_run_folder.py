"""What may lie in a run's folder, and what resuming makes of it."""

from contextlib import ExitStack

import pytest
import yaml

from tis_ray.errors import ConfigError
from tis_ray.training import run_folder
from tis_ray.training.position import Position


def write_checkpoint(folder, epochs, batches=0):
    path = run_folder.partial(folder, Position(epochs, batches))
    (path / "model.safetensors").write_text(f"weights {epochs}")
    (path / run_folder.STATE).write_text("state")
    return path


def begin(recipe):
    """A run with one epoch behind it."""
    run_folder.prepare(recipe)
    run_folder.commit(write_checkpoint(recipe.run_dir, 1))


def test_an_uncommitted_checkpoint_does_not_exist(tmp_path):
    assert run_folder.newest(tmp_path) is None
    run_folder.commit(write_checkpoint(tmp_path, 1))
    write_checkpoint(tmp_path, 2)
    assert run_folder.newest(tmp_path) == (tmp_path / "checkpoint_000001", (1, 0))


def test_the_newest_is_found_by_number(tmp_path):
    for epochs in (2, 10, 9):
        run_folder.commit(write_checkpoint(tmp_path, epochs))
    assert run_folder.newest(tmp_path) == (tmp_path / "checkpoint_000010", (10, 0))


def test_checkpoints_inside_an_epoch_lie_between_those_at_its_ends(tmp_path):
    for position in ((4, 0), (3, 1200), (3, 0), (3, 90), (2, 9_999_999)):
        run_folder.commit(write_checkpoint(tmp_path, *position))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint_000002.9999999",
        "checkpoint_000003",
        "checkpoint_000003.0000090",
        "checkpoint_000003.0001200",
        "checkpoint_000004",
    ]
    assert run_folder.newest(tmp_path)[1] == (4, 0)
    run_folder.prune(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint_000003.0001200", "checkpoint_000004"]
    (tmp_path / "checkpoint_000004").rename(tmp_path / "checkpoint_4")
    assert run_folder.newest(tmp_path) == (tmp_path / "checkpoint_000003.0001200", (3, 1200))


def test_a_new_checkpoint_clears_what_was_left_half_written_at_another_place(tmp_path):
    write_checkpoint(tmp_path, 1, 30)
    run_folder.commit(write_checkpoint(tmp_path, 1, 40))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint_000001.0000040"]


def test_committing_twice_replaces(tmp_path):
    run_folder.commit(write_checkpoint(tmp_path, 1))
    again = write_checkpoint(tmp_path, 1)
    (again / "model.safetensors").write_text("newer")
    assert (run_folder.commit(again) / "model.safetensors").read_text() == "newer"


def test_a_kill_while_one_is_replaced_leaves_no_torn_checkpoint(tmp_path, monkeypatch):
    run_folder.commit(write_checkpoint(tmp_path, 1))
    again = write_checkpoint(tmp_path, 1)

    def killed(folder, **_):
        next(folder.iterdir()).unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(run_folder.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        run_folder.commit(again)
    for folder in tmp_path.glob("checkpoint*"):
        assert len(list(folder.iterdir())) == 2
    assert run_folder.newest(tmp_path) is not None
    monkeypatch.undo()
    run_folder.clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint_000001"]


def test_publishing_leaves_out_what_only_training_needs(tmp_path):
    run_folder.commit(write_checkpoint(tmp_path, 1))
    run_folder.commit(write_checkpoint(tmp_path, 2))
    assert not run_folder.finished(tmp_path)
    published = run_folder.publish(tmp_path)
    assert run_folder.finished(tmp_path)
    assert published == tmp_path / "checkpoint"
    assert [path.name for path in published.iterdir()] == ["model.safetensors"]
    assert (published / "model.safetensors").read_text() == "weights 2"


def test_publishing_nothing_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="there is none"):
        run_folder.publish(tmp_path)


def test_a_folder_in_use_is_refused_without_resume(make_recipe):
    recipe = make_recipe()
    run_folder.check(recipe, resume=False)
    begin(recipe)
    with pytest.raises(ConfigError, match=r"output: .*toy already holds a run; continue it with --resume"):
        run_folder.check(recipe, resume=False)
    run_folder.check(recipe, resume=True)


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_failed_before_its_first_checkpoint_may_begin_with_another_recipe(make_recipe, resume):
    run_folder.prepare(make_recipe())
    corrected = make_recipe("toy", "schedule.lr=0.5")
    run_folder.check(corrected, resume=resume)
    run_folder.prepare(corrected)
    assert yaml.safe_load((corrected.run_dir / "recipe.yaml").read_text())["schedule"]["lr"] == 0.5


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_of_something_else_is_refused(make_recipe, resume):
    recipe = make_recipe()
    recipe.run_dir.mkdir(parents=True)
    (recipe.run_dir / "thesis.tex").touch()
    with pytest.raises(ConfigError, match=r"output: .*toy holds something else"):
        run_folder.check(recipe, resume=resume)


def test_one_run_holds_a_folder_with_its_worker(tmp_path):
    def start():
        return run_folder.locked(tmp_path, starting=True)

    refused = pytest.raises(ConfigError, match="another process is training")
    with ExitStack() as worker:
        with start():
            worker.enter_context(run_folder.locked(tmp_path, starting=False))
            with refused, start():
                pass
        with refused, start():  # the worker outlives the process that started it
            pass
    with start():
        pass


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("seed=7", "seed: expected 0"),
        ("data.batch_size=3", "data.batch_size: expected 2"),
        ("schedule.lr=0.5", "schedule.lr: expected 0.01"),
        ("schedule.clip_grad_norm=null", "schedule.clip_grad_norm: expected 5.0"),
        ("detector.mask=null", "detector.mask: expected nothing"),
        ("detector.backbone=resnet18", "detector.backbone"),
        ("resources.size_bucket_px=64", "resources.size_bucket_px: expected 32"),
        ("resources.workers=2", "resources.workers: expected 1"),
    ],
)
def test_resuming_with_another_recipe_names_the_key(make_recipe, override, key):
    begin(make_recipe())
    with pytest.raises(ConfigError, match=f"^{key}"):
        run_folder.check(make_recipe("toy", override), resume=True)


def test_what_does_not_touch_the_weights_may_change(make_recipe):
    begin(make_recipe())
    run_folder.check(make_recipe("toy", "data.loader_processes=2", "resources.cpus_per_worker=2"), resume=True)


def test_of_workers_the_most_decides(make_recipe):
    begin(make_recipe("toy", "resources.workers=[2, 4]"))
    for same in ("[1, 4]", "4"):
        run_folder.check(make_recipe("toy", f"resources.workers={same}"), resume=True)
    with pytest.raises(ConfigError, match=r"^resources\.workers: expected 4, .*; got 8"):
        run_folder.check(make_recipe("toy", "resources.workers=[2, 8]"), resume=True)


def test_how_often_is_checked_and_kept_may_change(make_recipe):
    begin(make_recipe())
    often = ("schedule.checkpoint_every_iterations=10", "schedule.validate_every_epochs=2")
    run_folder.check(make_recipe("toy", *often), resume=True)


def test_preparing_clears_what_a_kill_may_have_torn(make_recipe):
    recipe = make_recipe()
    run_folder.prepare(recipe)
    run_folder.commit(write_checkpoint(recipe.run_dir, 1))
    write_checkpoint(recipe.run_dir, 2)
    (recipe.run_dir / "checkpoint_manager_snapshot.json").write_text('{"checkpoint_results": [')
    run_folder.prepare(recipe)
    assert sorted(path.name for path in recipe.run_dir.iterdir()) == ["checkpoint_000001", "recipe.yaml"]


def test_publishing_leaves_the_last_two_training_checkpoints(tmp_path):
    for epochs in (1, 2, 9, 10):
        run_folder.commit(write_checkpoint(tmp_path, epochs))
    run_folder.publish(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["checkpoint", "checkpoint_000009", "checkpoint_000010"]


def test_paths_become_absolute(make_recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = make_recipe(
        "toy", "data.train.annotations=a/b.json", "output=runs", "detector.backbone.shufflenet_v2_x0_5.weights=w.pth"
    )
    moved = run_folder.absolute(recipe)
    assert moved.data.train.annotations == tmp_path / "a" / "b.json"
    assert moved.output == tmp_path / "runs"
    assert moved.detector.backbone.options == {"weights": str(tmp_path / "w.pth")}


@pytest.mark.parametrize("name", ["package", "in1k", "tf_efficientnet_lite0.in1k"])
def test_names_of_weights_are_no_paths(make_recipe, name):
    recipe = make_recipe("toy", f"detector.backbone={{tf_efficientnet_lite0: {{weights: {name}}}}}")
    assert run_folder.absolute(recipe).detector.backbone.options == {"weights": name}


def test_a_file_of_weights_without_a_suffix_becomes_absolute(make_recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").touch()
    recipe = make_recipe("toy", "detector.backbone={tf_efficientnet_lite0: {weights: weights}}")
    assert run_folder.absolute(recipe).detector.backbone.options == {"weights": str(tmp_path / "weights")}
