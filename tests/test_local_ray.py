"""A Ray that cannot start is told in one line."""

import pytest

from tis_ray import local_ray
from tis_ray.errors import ServiceError


@pytest.mark.ray
def test_a_ray_that_cannot_start_is_one_line(tmp_path, monkeypatch):
    deep = tmp_path / ("x" * 100)  # too long a path for the sockets that Ray makes in it
    deep.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(deep))
    with pytest.raises(ServiceError, match=r"^Ray did not start on this machine: .*path"):
        local_ray.start(num_cpus=1)
