"""A service whose models take their time, so that it can be overloaded."""

from collections.abc import Iterator

import pytest

from tests.serving.load.answers import street
from tests.serving.load.offering import Pictures
from tests.serving.load.standing import standing
from tests.tiny import save_tiny_checkpoint
from tis_ray.config import Ensemble

DEADLINE_S = 60.0  # for what is measured while nothing else is asked, on however slow a machine
WAITING = 8
SIZE_HW = (720, 1280)


@pytest.fixture(scope="module")
def slow_pictures(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pictures]:
    """Eight pictures for a service whose view servers take some tenths of a second for each."""
    folder = save_tiny_checkpoint(tmp_path_factory.mktemp("overload") / "one", seed=3)
    content = {
        "members": {"one": {"checkpoint": str(folder), "scales": [640, 960]}},
        "fusion": {"rules": [{"nms": {"iou_threshold": 0.6}}], "top_k": 12},
        "limits": {"deadline_s": DEADLINE_S, "max_deadline_s": DEADLINE_S, "max_queued_requests": WAITING},
        "replicas": {name: {"num_cpus": 0.5, "num_gpus": 0} for name in ("default", "gateway", "fusion")},
        "auth": "none",
    }
    with standing(Ensemble.model_validate(content), request) as url:
        yield Pictures(url, [street(seed, SIZE_HW) for seed in range(8)], DEADLINE_S)
