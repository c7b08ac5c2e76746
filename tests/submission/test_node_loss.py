"""A batch run on a cluster of three nodes, one of which goes: nothing is lost, nothing doubled."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.submission.streamed import found, new_run, write_images
from tests.tiny import save_tiny_checkpoint
from tests.training.cluster import PATIENCE_S, ROOT, Nodes
from tis_ray.config import Ensemble, load_ensemble
from tis_ray.runs.folder import RunFolder

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        nodes = Nodes(Path(folder))
        nodes.environment["RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S"] = "60"  # Serve's 5 s are few for a busy machine
        with nodes:
            yield nodes


def write_ensemble(folder: Path) -> Path:
    """One view server of two replicas; all replicas together fit onto any one node."""
    save_tiny_checkpoint(folder / "one", seed=3)
    content = {
        "members": {"one": {"checkpoint": "one", "scales": [64]}},
        "limits": {"deadline_s": 300, "max_deadline_s": PATIENCE_S / 2},
        "auth": "none",
        "replicas": {
            "default": {"num_cpus": 0.2, "num_gpus": 0, "num_replicas": 2},
            "gateway": {"num_cpus": 0.2},
            "fusion": {"num_cpus": 0.2},
        },
    }
    path = folder / "ensemble.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def segment(nodes: Nodes, ensemble: Path, run: RunFolder, *, lose: str | None = None) -> list[dict[str, int]]:
    """The shards as they were told; after the third, a node is lost."""
    command = [sys.executable, "-m", "tests.submission.cluster_driver", ensemble, run.path]
    log = run.path.with_suffix(".log")
    with (
        log.open("w") as errors,
        subprocess.Popen(
            list(map(str, command)), cwd=ROOT, env=nodes.environment, text=True, stdout=subprocess.PIPE, stderr=errors
        ) as process,
    ):
        assert process.stdout is not None
        told = []
        for line in process.stdout:
            if line.startswith("{"):
                told.append(json.loads(line))
                if len(told) == 3 and lose is not None:
                    nodes.remove(lose)
    assert process.returncode == 0, log.read_text()
    return told


def test_a_run_goes_on_without_a_node_that_is_lost(nodes: Nodes, tmp_path: Path) -> None:
    ensemble_path = write_ensemble(tmp_path)
    ensemble: Ensemble = load_ensemble(ensemble_path)
    images = write_images(tmp_path / "images", 60)
    whole, run = (new_run(tmp_path / name, ensemble, images) for name in ("whole", "run"))
    segment(nodes, ensemble_path, whole)
    told = segment(nodes, ensemble_path, run, lose="first")
    assert sorted(done["number"] for done in told) == list(range(20))
    assert {one.status for one in run.outcomes()} == {"ok"}
    assert found(run.path) == found(whole.path)
