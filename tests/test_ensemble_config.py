"""Values of an ensemble that fit their type and still cannot work: refused when the file is read."""

import pytest

from tis_ray.config import Ensemble, dump, parse
from tis_ray.errors import ConfigError

ENSEMBLE = {"members": {"a": {"checkpoint": "a", "scales": [64]}}}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["limits.deadline_s=301"], r"limits: deadline_s: expected at most max_deadline_s, 300; got .*"),
        (["limits.max_deadline_s=10"], r"limits: deadline_s: expected at most max_deadline_s, 10; got .*"),
        (
            ["replicas.default.autoscaling={min_replicas: 3, max_replicas: 2}"],
            r"replicas\.default\.autoscaling: min_replicas: expected at most max_replicas, 2; got .*",
        ),
        (
            ["replicas.fusion={num_replicas: 2, autoscaling: {max_replicas: 3}}"],
            r"replicas\.fusion: num_replicas: expected none beside autoscaling.*",
        ),
        (["replicas.default.num_gpus=-1"], r"replicas\.default\.num_gpus.*: expected auto, a share .*; got -1"),
        (["replicas.default.num_gpus=1.5"], r"replicas\.default\.num_gpus.*: expected auto, a share .*; got 1\.5"),
        (["replicas.default.num_gpus=.inf"], r"replicas\.default\.num_gpus.*: expected auto, a share .*"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_values_that_would_fail_late_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=f"^all.yaml: {message}$"):
        parse(Ensemble, ENSEMBLE, overrides, source="all.yaml")


@pytest.mark.parametrize("num_gpus", ["auto", 0, 0.25, 1, 2])
def test_an_ensemble_reads_back_what_it_writes(num_gpus):
    replicas = {"default": {"num_gpus": num_gpus, "autoscaling": {"min_replicas": 2, "max_replicas": 2}}}
    ensemble = parse(Ensemble, ENSEMBLE | {"replicas": replicas}, source="all.yaml")
    assert ensemble.replica("a@64").num_gpus == num_gpus
    assert parse(Ensemble, dump(ensemble), source="dump") == ensemble
