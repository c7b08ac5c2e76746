"""`ray_cluster.yaml` against Ray's own schema and checks, as `ray up` reads it."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray", "ignore::FutureWarning:ray")

FILE = Path(__file__).parents[2] / "ray_cluster.yaml"


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return content


@pytest.fixture(scope="module")
def prepared(config: dict[str, Any]) -> dict[str, Any]:
    """With the launcher's defaults, which is what it validates."""
    from ray.autoscaler._private.util import prepare_config

    content: dict[str, Any] = prepare_config(config)
    return content


def test_the_launcher_accepts_it(prepared: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import validate_config

    validate_config(prepared)


def test_a_misspelt_key_would_be_noticed(prepared: dict[str, Any]) -> None:
    import jsonschema
    from ray.autoscaler._private.util import validate_config

    with pytest.raises(jsonschema.ValidationError, match="max_wokers"):
        validate_config({**prepared, "max_wokers": 3})


def test_the_head_has_no_gpu_and_workers_come_as_spot_and_on_demand(prepared: dict[str, Any]) -> None:
    types = prepared["available_node_types"]
    head = types[prepared["head_node_type"]]
    assert "GPU" not in head["resources"]
    workers = {name: kind for name, kind in types.items() if name != prepared["head_node_type"]}
    assert all(kind["resources"]["GPU"] >= 1 and kind["min_workers"] == 0 for kind in workers.values())
    assert all(kind["max_workers"] > 0 for kind in workers.values())
    spot = {kind["node_config"].get("InstanceMarketOptions", {}).get("MarketType") for kind in workers.values()}
    assert spot == {"spot", None}
    assert sum(kind["max_workers"] for kind in workers.values()) <= prepared["max_workers"]


def test_the_dashboard_which_runs_any_code_listens_on_loopback_alone(config: dict[str, Any]) -> None:
    (start,) = [line for line in config["head_start_ray_commands"] if "--head" in line]
    assert "--dashboard-host=127.0.0.1" in start
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in start


def test_every_command_is_one_that_a_shell_can_read(config: dict[str, Any]) -> None:
    for key in ("setup_commands", "head_start_ray_commands", "worker_start_ray_commands"):
        assert config[key]
        for line in config[key]:
            assert shlex.split(line)
