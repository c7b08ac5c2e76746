"""`deployments/kuberay/rayservice.yaml` against KubeRay's reference of `ray.io/v1` and the service's own config."""

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from tests.deployments.test_rayjob import CLUSTER, CONTAINER, HEAD, POD, WORKERS
from tis_ray.config import Ensemble, parse

FILE = Path(__file__).parents[2] / "deployments" / "kuberay" / "rayservice.yaml"
JOB_FILE = FILE.with_name("rayjob.yaml")

# Fields by KubeRay's API reference for v1.7.
SERVICE = {
    "excludeHeadPodFromServeSvc", "managedBy", "rayClusterConfig", "rayClusterDeletionDelaySeconds", "serveConfigV2",
    "serveService", "suspend", "upgradeStrategy",
}  # fmt: skip
UPGRADE = {"gatewayClassName", "intervalSeconds", "maxSurgePercent", "stepSizePercent"}


@pytest.fixture(scope="module")
def documents() -> dict[str, dict[str, Any]]:
    """By kind."""
    return {content["kind"]: content for content in yaml.safe_load_all(FILE.read_text())}


@pytest.fixture(scope="module")
def spec(documents: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return dict(documents["RayService"]["spec"])


@pytest.fixture(scope="module")
def serve(spec: dict[str, Any]) -> ServeDeploySchema:
    return ServeDeploySchema.model_validate(yaml.safe_load(spec["serveConfigV2"]))


@pytest.fixture(scope="module")
def ensemble(serve: ServeDeploySchema) -> Ensemble:
    (application,) = serve.applications
    return parse(Ensemble, application.args, source="args")


def pods(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    cluster = spec["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        yield group["template"]


def test_it_has_fields_that_kuberay_knows_and_no_others(documents, spec) -> None:
    assert documents["RayService"]["apiVersion"] == "ray.io/v1"
    cluster = spec["rayClusterConfig"]
    for content, known in ((spec, SERVICE), (cluster, CLUSTER), (cluster["headGroupSpec"], HEAD)):
        assert content.keys() <= known
    for group in cluster["workerGroupSpecs"]:
        assert group.keys() <= WORKERS
    for template in pods(spec):
        assert template.keys() == {"metadata", "spec"}
        assert template["spec"].keys() <= POD
        assert all(container.keys() <= CONTAINER for container in template["spec"]["containers"])
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_upgrades_go_by_steps_for_which_the_autoscaler_has_to_be_on(spec) -> None:
    assert spec["upgradeStrategy"]["type"] == "NewClusterWithIncrementalUpgrade"
    options = spec["upgradeStrategy"]["clusterUpgradeOptions"]
    assert options.keys() == UPGRADE
    assert 0 < options["stepSizePercent"] <= options["maxSurgePercent"] <= 100
    assert spec["rayClusterConfig"]["enableInTreeAutoscaling"] is True


def test_an_old_cluster_and_an_old_pod_stay_until_all_is_answered(spec, ensemble) -> None:
    assert spec["rayClusterDeletionDelaySeconds"] > ensemble.limits.max_deadline_s
    (worker,) = spec["rayClusterConfig"]["workerGroupSpecs"]
    assert worker["template"]["spec"]["terminationGracePeriodSeconds"] > ensemble.limits.max_deadline_s + 10


def test_the_service_that_it_deploys_is_whole(serve, ensemble) -> None:
    (application,) = serve.applications
    assert application.import_path == "tis_ray.serving.app:build"
    assert {one.name for one in application.deployments} <= {"Gateway", "Fusion", *ensemble.deployments}
    assert len(ensemble.deployments) == 1
    assert len(ensemble.views) == 20
    assert serve.http_options.request_timeout_s > ensemble.limits.max_deadline_s
    (section,) = [one for one in application.deployments if one.name == "Fusion"]
    assert parse(type(ensemble.fusion), section.user_config, source="user_config") == ensemble.fusion


def test_every_replica_finds_a_gpu_and_an_update_one_more(spec, ensemble) -> None:
    (group,) = spec["rayClusterConfig"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    limits = container["resources"]["limits"]
    assert container["resources"]["requests"] == limits
    (name,) = ensemble.deployments
    replica = ensemble.replica(name)
    assert int(limits["nvidia.com/gpu"]) == replica.num_gpus
    assert group["minReplicas"] == group["replicas"] == replica.autoscaling.min_replicas
    assert group["maxReplicas"] > replica.autoscaling.max_replicas
    assert replica.max_surge_percent > 0
    beside = [ensemble.replicas["gateway"], ensemble.replicas["fusion"]]
    needed = replica.num_cpus * group["minReplicas"] + sum(one.num_cpus * one.num_replicas for one in beside)
    assert needed <= int(limits["cpu"]) * group["minReplicas"]
    assert spec["rayClusterConfig"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_nobody_gets_in_without_a_token_and_the_dashboard_is_not_to_be_reached(documents, spec, ensemble) -> None:
    cluster = spec["rayClusterConfig"]
    assert cluster["rayVersion"] == version("ray")
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert ensemble.auth not in (None, "none")
    policy = documents["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    ours, everybody = policy["ingress"]
    assert all("podSelector" in one for one in ours["from"])
    assert everybody == {"ports": [{"protocol": "TCP", "port": 8000}]}
    for template in pods(spec):
        assert template["metadata"]["labels"].items() >= policy["podSelector"]["matchLabels"].items()
        assert template["spec"]["securityContext"]["runAsNonRoot"] is True
        (container,) = template["spec"]["containers"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False


def test_all_pods_have_the_storage_and_the_tokens_that_the_ensemble_names(documents, spec, ensemble) -> None:
    claim = documents["PersistentVolumeClaim"]
    (member,) = ensemble.members.values()
    for template in pods(spec):
        (container,) = template["spec"]["containers"]
        mounts = {mount["name"]: PurePosixPath(mount["mountPath"]) for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        assert mounts.keys() == volumes.keys()
        assert volumes["shared"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert volumes["tokens"]["secret"]["secretName"] == "tis-ray-tokens"
        assert PurePosixPath(ensemble.auth.tokens_file).parent == mounts["tokens"]
        for path in (member.checkpoint, ensemble.inference.compile_cache):
            assert PurePosixPath(path).is_relative_to(mounts["shared"])


def test_both_files_are_filled_in_alike(spec) -> None:
    job = next(one for one in yaml.safe_load_all(JOB_FILE.read_text()) if one["kind"] == "RayJob")
    groups = job["spec"]["rayClusterSpec"]
    theirs = [groups["headGroupSpec"]["template"], *(group["template"] for group in groups["workerGroupSpecs"])]
    for template in (*pods(spec), *theirs):
        assert [one["image"] for one in template["spec"]["containers"]] == ["FILL-IN"]
        assert template["spec"]["securityContext"]["fsGroup"] == 1000
    examples = {path: "registry.example.org/tis-ray:0.1.0" in path.read_text() for path in (FILE, JOB_FILE)}
    assert all(examples.values()), examples
