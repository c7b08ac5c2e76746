"""Which failures a restart may mend, and what a user is told of a run that failed on Ray."""

import pickle

import pytest
import torch
from ray.exceptions import OutOfMemoryError, RayTaskError, WorkerCrashedError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from tis_ray.errors import DataError
from tis_ray.training.failures import EndedError, TrainingError, ending, explain, first_line, told

GONE = WorkerCrashedError()
GONE_BY_HEALTH = WorkerHealthCheckFailedError("A worker health check failed.\nWorker info: ...", failure=GONE)
MISTAKE = DataError("7.png: broken")
NO_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
GLOO = RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [10.0.0.3]:1")
NCCL = torch.distributed.DistBackendError("NCCL communicator was aborted on rank 0.")
TASK = WorkerHealthCheckFailedError("", failure=RayTaskError("poll", "cannot pickle", TypeError("cannot pickle")))


@pytest.mark.parametrize(
    "failures",
    [
        pytest.param({1: GONE}, id="worker"),
        pytest.param({1: GONE_BY_HEALTH}, id="worker, as Ray Train tells it"),
        pytest.param({0: GLOO, 1: GONE_BY_HEALTH}, id="worker and an echo"),
        pytest.param({0: GLOO}, id="an echo that came first"),
        pytest.param({0: NCCL}, id="an echo on GPUs"),
        pytest.param({0: OutOfMemoryError("the node's memory")}, id="a worker that its node ended"),
        pytest.param({0: torch.AcceleratorError("CUDA error: uncorrectable ECC error")}, id="a broken GPU"),
    ],
)
def test_a_restart_may_mend_a_lost_worker(failures):
    assert ending(failures) is None


@pytest.mark.parametrize(
    ("failures", "rank"),
    [
        pytest.param({0: GLOO, 1: MISTAKE}, 1, id="a mistake and its echo"),
        pytest.param({0: NO_MEMORY, 1: MISTAKE}, 1, id="a mistake first"),
        pytest.param({0: KeyError("x"), 1: NO_MEMORY}, 1, id="then memory"),
        pytest.param({0: GONE, 1: KeyError("x")}, 1, id="what nobody expected"),
        pytest.param({0: RuntimeError("mat1 and mat2 shapes cannot be multiplied")}, 0, id="a shape"),
        pytest.param({0: TASK}, 0, id="an error of a worker's own"),
    ],
)
def test_no_restart_mends_anything_else(failures, rank):
    assert ending(failures) == (rank, failures[rank])


def test_the_lost_worker_is_told_from_those_that_it_took_along():
    assert told({0: GLOO, 1: GONE_BY_HEALTH, 2: GLOO}, {1: "b"}) == (
        "worker 1 on b was lost (The worker died unexpectedly while executing this task)"
    )
    assert told({2: GLOO, 1: GLOO}, {}) == (
        "worker 1 lost the connection to another one (Connection closed by peer [10.0.0.3]:1)"
    )
    broken = torch.AcceleratorError("CUDA error: uncorrectable ECC error\nCUDA kernel errors might be ...")
    assert told({0: broken}, {}) == "worker 0 lost its device (CUDA error: uncorrectable ECC error)"


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (GONE, TrainingError, "toy: the run was lost"),
        (WorkerGroupError("", {1: GONE}), TrainingError, "toy: worker 1 on b was lost (The worker died"),
        (ControllerError(EndedError({0: GLOO, 1: MISTAKE})), DataError, "toy: 7.png: broken"),
        (ControllerError(EndedError({0: NO_MEMORY})), TrainingError, "toy: worker 0 on a is out of GPU memory (CUDA"),
        (ControllerError(EndedError({1: KeyError("x")})), RuntimeError, "toy: worker 1 on b failed: KeyError: 'x'"),
        (ControllerError(OSError("full")), RuntimeError, "toy: controller failed: OSError: full"),
        (OSError("\nno space left"), RuntimeError, "toy: trainer failed: OSError: no space left"),
        (MISTAKE, DataError, "7.png: broken"),
    ],
)
def test_the_run_and_what_befell_it_are_named(error, kind, text):
    explained = explain(error, "toy", places={0: "a", 1: "b"}, restarts=3)
    assert type(explained) is kind
    assert str(explained).startswith(text)
    assert first_line(explained) == str(explained)


@pytest.mark.parametrize("error", [GONE, WorkerGroupError("", {1: GONE_BY_HEALTH})])
def test_who_has_lost_a_run_is_told_how_to_go_on(error):
    assert str(explain(error, "toy")).endswith("; go on with --resume")


def test_a_run_that_has_given_up_says_after_how_many_restarts():
    error = WorkerGroupError("", {1: GONE})
    assert str(explain(error, "toy", restarts=3)).endswith(
        ") after 3 restarts (resources.max_failures); go on with --resume"
    )
    assert " after " not in str(explain(error, "toy"))


def test_failures_reach_the_driver_from_the_process_that_watches():
    error = pickle.loads(pickle.dumps(ControllerError(EndedError({1: MISTAKE}))))
    assert str(explain(error, "toy")) == "toy: 7.png: broken"
