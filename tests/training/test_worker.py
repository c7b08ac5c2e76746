"""What a worker, and the process that follows it, see of storage that may show other nodes' files late."""

import shutil
import threading

import pytest

from tis_ray.errors import ConfigError
from tis_ray.training import run_folder
from tis_ray.training.position import Position
from tis_ray.training.run import Worker, assemble, run
from tis_ray.training.worker import await_checkpoint, await_known, check_node


def commit(recipe, epochs, batches=0):
    return run_folder.commit(run_folder.partial(recipe.run_dir, Position(epochs, batches)))


def test_what_was_reported_is_awaited_and_no_earlier_checkpoint_taken_for_it(make_recipe):
    recipe = make_recipe()
    commit(recipe, 1)
    with pytest.raises(ConfigError, match=r"^output: expected storage that all nodes share; node here .*_000002$"):
        await_known(recipe, "checkpoint_000002", "here", within_s=0)
    late = threading.Timer(0.2, commit, (recipe, 2))
    late.start()
    await_known(recipe, "checkpoint_000002", "here", within_s=30)
    late.join()


def test_there_may_be_a_later_one_than_was_reported_last(make_recipe):
    """The first worker was lost between writing and reporting it."""
    recipe = make_recipe()
    last = commit(recipe, 1, 4)
    commit(recipe, 2)
    await_known(recipe, last.name, "here", within_s=0)


def test_where_nothing_is_known_nothing_is_awaited(make_recipe):
    await_known(make_recipe(), "", "here", within_s=0)


def test_workers_go_on_from_the_checkpoint_of_the_first(make_recipe):
    recipe = make_recipe()
    with pytest.raises(ConfigError, match=r"node here does not see .*checkpoint_000001$"):
        await_checkpoint(recipe, "checkpoint_000001", "here", within_s=0)
    run_folder.prepare(recipe)
    await_checkpoint(recipe, "", "here", within_s=0)
    name = commit(recipe, 1).name
    await_checkpoint(recipe, name, "here", within_s=0)
    commit(recipe, 2)  # of which the first one's node does not know yet
    await_checkpoint(recipe, name, "here", within_s=0)


def test_a_run_goes_on_from_the_checkpoint_that_is_named(make_recipe):
    recipe = make_recipe()
    run(recipe)
    assert assemble(recipe, Worker()).position == (2, 0)
    assert assemble(recipe, Worker(), "checkpoint_000001").position == (1, 0)
    begun = assemble(recipe, Worker(), "")
    assert (begun.position, begun.step) == ((0, 0), 0)
    shutil.rmtree(recipe.run_dir / "checkpoint_000002")
    assert assemble(recipe, Worker()).position == (1, 0)


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
