"""What a user is told of a run that failed on Ray."""

import pytest
from ray.exceptions import WorkerCrashedError
from ray.train.v2.api.exceptions import WorkerGroupError

from tis_ray.errors import DataError
from tis_ray.training.failures import TrainingError, explain, first_line


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (WorkerCrashedError(), TrainingError, "toy: the run was lost"),
        (WorkerGroupError("", {1: WorkerCrashedError()}), TrainingError, "toy: a worker was lost"),
        (WorkerGroupError("", {0: RuntimeError(), 1: DataError("7.png: broken")}), DataError, "toy: 7.png: broken"),
        (WorkerGroupError("", {1: KeyError("x")}), RuntimeError, "toy: worker 1 failed: KeyError"),
        (OSError("\nno space left"), RuntimeError, "toy: trainer failed: OSError: no space left"),
    ],
)
def test_the_run_and_what_befell_it_are_named(error, kind, text):
    explained = explain(error, "toy")
    assert type(explained) is kind
    assert str(explained).startswith(text)
    assert first_line(explained) == str(explained)
