"""Every Serve config under `deployments/` as Serve and the service read it, without a cluster."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from tis_ray.config import Ensemble, FusionSection, parse
from tis_ray.serving.local import LOOPBACK
from tis_ray.serving.resources import Resources

FOLDER = Path(__file__).parents[2] / "deployments"
FILES = sorted(FOLDER.glob("*.yaml"))


def read(path: Path) -> tuple[ServeDeploySchema, Ensemble]:
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    config = ServeDeploySchema.model_validate(content)
    (application,) = config.applications
    return config, parse(Ensemble, application.args, source=path.name)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_serve_and_the_service_accept_it(path: Path) -> None:
    config, ensemble = read(path)
    (application,) = config.applications
    assert application.import_path == "tis_ray.serving.app:build"
    assert {one.name for one in application.deployments} <= {"Gateway", "Fusion", *ensemble.deployments}
    assert config.http_options.request_timeout_s > ensemble.limits.max_deadline_s
    for section in application.deployments:
        if section.name == "Fusion":
            assert parse(FusionSection, section.user_config, source="user_config").preset == ensemble.fusion.preset


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_who_listens_beyond_this_machine_asks_for_tokens(path: Path) -> None:
    config, ensemble = read(path)
    assert config.http_options.host in LOOPBACK or ensemble.auth not in (None, "none")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_tells_to_guard_rays_own_ports_with_a_token(path: Path) -> None:
    assert "RAY_AUTH_MODE=token" in path.read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_serve_takes_the_options_of_every_deployment(path: Path) -> None:
    from ray import serve

    _, ensemble = read(path)
    resources = Resources.of(ensemble, {"CPU": 1000, "GPU": 100})
    for name in ensemble.deployments:
        options = resources.options(ensemble, ensemble.replica(name), on_gpu=True)
        made = serve.deployment(type("Plain", (), {}), name=name, **options)
        assert made._deployment_config.max_surge_percent == 25
