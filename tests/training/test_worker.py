"""What a worker, and the process that follows it, see of storage that may show other nodes' files late."""

import threading

import pytest

from tis_ray.errors import ConfigError
from tis_ray.training import run_folder
from tis_ray.training.position import Position
from tis_ray.training.worker import await_checkpoint, await_end, check_node


def commit(recipe, epochs, batches=0):
    return run_folder.commit(run_folder.partial(recipe.run_dir, Position(epochs, batches)))


def test_the_end_is_awaited_and_no_earlier_checkpoint_taken_for_it(make_recipe):
    recipe = make_recipe()
    last = commit(recipe, 1).with_name("checkpoint_000002")
    with pytest.raises(ConfigError, match=r"^output: expected storage that all nodes share; node here .*_000002$"):
        await_end(recipe, last, "here", within_s=0)
    late = threading.Timer(0.2, commit, (recipe, 2))
    late.start()
    await_end(recipe, last, "here", within_s=30)
    late.join()


def test_the_end_may_lie_behind_what_was_reported_last(make_recipe):
    """The first worker was lost between writing and reporting it."""
    recipe = make_recipe()
    last = commit(recipe, 1, 4)
    commit(recipe, 2)
    await_end(recipe, last, "here", within_s=0)


def test_workers_begin_from_one_checkpoint(make_recipe):
    recipe = make_recipe()
    await_checkpoint(recipe, "", "here", within_s=0)
    name = commit(recipe, 1).name
    await_checkpoint(recipe, name, "here", within_s=0)
    with pytest.raises(ConfigError, match=r"node here sees checkpoint_000001 in .*, the first worker none$"):
        await_checkpoint(recipe, "", "here", within_s=0)


def test_a_node_without_folder_or_data_is_named(make_recipe, tmp_path):
    recipe = make_recipe()
    with pytest.raises(ConfigError, match=r"node here does not see .*recipe\.yaml$"):
        check_node(recipe, "here", within_s=0)
    run_folder.prepare(recipe)
    check_node(recipe, "here", within_s=0)
    lost = make_recipe("lost", f"data.val={{annotations: '{tmp_path / 'none.json'}'}}")
    run_folder.prepare(lost)
    with pytest.raises(ConfigError, match=r"^data\.val\.annotations: .*none\.json on node here$"):
        check_node(lost, "here", within_s=0)
