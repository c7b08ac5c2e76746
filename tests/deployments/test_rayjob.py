"""`deployments/kuberay/rayjob.yaml` against KubeRay's reference of `ray.io/v1`, as far as one can without a cluster."""

import shlex
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from tis_ray.config import Recipe, load_recipe

FILE = Path(__file__).parents[2] / "deployments" / "kuberay" / "rayjob.yaml"

# Fields of the types used here, by KubeRay's API reference for v1.6 and Kubernetes' for v1.
JOB = {
    "activeDeadlineSeconds", "backoffLimit", "clusterSelector", "deletionStrategy", "entrypoint", "entrypointNumCpus",
    "entrypointNumGpus", "entrypointResources", "jobId", "managedBy", "metadata", "preRunningDeadlineSeconds",
    "rayClusterSpec", "runtimeEnvYAML", "shutdownAfterJobFinishes", "submissionMode", "submitterConfig",
    "submitterPodTemplate", "suspend", "ttlSecondsAfterFinished",
}  # fmt: skip
CLUSTER = {
    "authOptions", "autoscalerOptions", "enableInTreeAutoscaling", "gcsFaultToleranceOptions", "headGroupSpec",
    "headServiceAnnotations", "managedBy", "rayVersion", "suspend", "upgradeStrategy", "workerGroupSpecs",
}  # fmt: skip
HEAD = {"enableIngress", "headService", "labels", "rayStartParams", "resources", "serviceType", "template"}
WORKERS = {
    "groupName", "idleTimeoutSeconds", "labels", "maxReplicas", "minReplicas", "numOfHosts", "rayStartParams",
    "replicas", "resources", "scaleStrategy", "suspend", "template",
}  # fmt: skip
POD = {
    "containers", "volumes", "tolerations", "nodeSelector", "affinity", "securityContext", "serviceAccountName",
    "terminationGracePeriodSeconds",
}  # fmt: skip
CONTAINER = {"name", "image", "resources", "ports", "volumeMounts", "env", "command", "args", "securityContext"}


@pytest.fixture(scope="module")
def documents() -> dict[str, dict[str, Any]]:
    """By kind."""
    return {content["kind"]: content for content in yaml.safe_load_all(FILE.read_text())}


@pytest.fixture(scope="module")
def job(documents: dict[str, dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = documents["RayJob"]["spec"]
    return spec


@pytest.fixture(scope="module")
def recipe(job: dict[str, Any]) -> Recipe:
    """The recipe that its command trains, by the words that a shell makes of it."""
    words = shlex.split(job["entrypoint"])
    assert words[:3] == ["python", "-m", "tis_ray.cluster.job"]
    assert "--resume" in words
    rest = [word for word in words[3:] if word != "--resume"]
    name, options = rest[0], rest[1:]
    assert set(options[::2]) == {"--set"}
    return load_recipe(name, options[1::2])


def pods(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    cluster = job["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        yield group["template"]["spec"]


def test_it_has_fields_that_kuberay_knows_and_no_others(documents, job):
    assert documents["RayJob"]["apiVersion"] == "ray.io/v1"
    cluster = job["rayClusterSpec"]
    for content, known in ((job, JOB), (cluster, CLUSTER), (cluster["headGroupSpec"], HEAD)):
        assert content.keys() <= known
    for group in cluster["workerGroupSpecs"]:
        assert group.keys() <= WORKERS
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    for pod in pods(job):
        assert pod.keys() <= POD
        assert all(container.keys() <= CONTAINER for container in pod["containers"])
    assert all(isinstance(value, str) for value in cluster["headGroupSpec"]["rayStartParams"].values())


def test_ray_is_the_one_that_is_locked_and_asks_for_a_token(job):
    assert job["rayClusterSpec"]["rayVersion"] == version("ray")
    assert job["rayClusterSpec"]["authOptions"] == {"mode": "token"}


def test_the_cluster_goes_when_the_job_has_ended_and_a_lost_head_is_made_up_for(job):
    assert job["shutdownAfterJobFinishes"] is True
    assert job["ttlSecondsAfterFinished"] > 0
    assert job["backoffLimit"] > 0


def test_workers_find_room_and_the_head_takes_none(job, recipe):
    cluster = job["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    (group,) = cluster["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    limits = container["resources"]["limits"]
    assert container["resources"]["requests"] == limits
    each = int(limits["nvidia.com/gpu"]) // recipe.resources.gpus_per_worker
    assert each >= 1
    assert group["maxReplicas"] * each >= recipe.resources.most_workers
    assert int(limits["cpu"]) >= recipe.resources.cpus_per_worker * each
    assert cluster["enableInTreeAutoscaling"] or group["replicas"] * each >= recipe.resources.least_workers


def test_all_pods_share_the_storage_that_the_recipe_names(documents, job, recipe):
    claim = documents["PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for pod in pods(job):
        (container,) = pod["containers"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert mounts.keys() == volumes.keys()
        assert volumes["shared"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert volumes["shm"]["emptyDir"]["medium"] == "Memory"
        assert mounts["shm"] == "/dev/shm"
        paths = (recipe.output, recipe.data.train.labels, recipe.data.train.images, recipe.start.checkpoint)
        assert all(PurePosixPath(path).is_relative_to(mounts["shared"]) for path in paths)


def test_what_is_to_be_filled_in_is_marked(job):
    assert {container["image"] for pod in pods(job) for container in pod["containers"]} == {"FILL-IN"}
