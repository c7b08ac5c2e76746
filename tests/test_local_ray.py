"""A Ray that cannot start is told in one line; the token of one that does is nobody else's to read."""

import os
import re
import subprocess
import sys

import httpx
import pytest

from tis_ray import local_ray
from tis_ray.errors import ServiceError


@pytest.mark.ray
def test_a_ray_that_cannot_start_is_one_line(tmp_path):
    deep = tmp_path / ("x" * 100)  # too long a path for the sockets that Ray makes in it
    deep.mkdir()
    code = """
from tis_ray import local_ray
from tis_ray.errors import ServiceError
try:
    local_ray.start(num_cpus=1)
except ServiceError as error:
    print(error)
"""
    environment = os.environ | {"RAY_TMPDIR": str(deep)}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert re.fullmatch(r"Ray did not start on this machine: .*path.*\n", ran.stdout)


@pytest.mark.ray
def test_a_second_ray_is_refused_and_the_first_goes_on(service):
    with pytest.raises(ServiceError, match="connected to one already"):
        local_ray.start(num_cpus=1)
    assert httpx.get(f"{service.url}/readyz", timeout=60, trust_env=False).status_code == 200


@pytest.fixture
def token(tmp_path, monkeypatch):
    """Where Ray keeps its token, in a home of this test's own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / ".ray" / "auth_token"


def test_a_token_is_made_that_nobody_else_can_read(token):
    local_ray.keep_token_private()
    assert token.stat().st_mode & 0o777 == 0o600
    assert len(token.read_text()) == 64
    made = token.read_text()
    local_ray.keep_token_private()
    assert token.read_text() == made
    assert list(token.parent.iterdir()) == [token]


def test_a_token_that_others_can_read_is_kept_from_them(token):
    token.parent.mkdir()
    token.write_text("as it was")
    token.chmod(0o644)
    local_ray.keep_token_private()
    assert token.stat().st_mode & 0o777 == 0o600
    assert token.read_text() == "as it was"


@pytest.mark.parametrize("name", ["RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"])
def test_a_token_of_the_environment_is_left_alone(token, monkeypatch, name):
    monkeypatch.setenv(name, "elsewhere")
    local_ray.keep_token_private()
    assert not token.exists()


def test_a_home_that_cannot_be_written_is_rays_to_complain_of(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    local_ray.keep_token_private()
