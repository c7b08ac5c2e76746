"""`deployments/Dockerfile` read, not built: what it copies is there, and what it installs is locked."""

import fnmatch
import re
import shlex
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "deployments" / "Dockerfile").read_text()
STEPS = [
    step.split(maxsplit=1)
    for step in re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", TEXT, flags=re.MULTILINE)).splitlines()
    if step.strip()
]


def steps(name: str) -> list[str]:
    return [rest for instruction, rest in STEPS if instruction == name]


def test_what_is_copied_is_in_the_repository_or_made_by_the_build_before() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wheel = f"dist/{project['name'].replace('-', '_')}-{project['version']}-py3-none-any.whl"
    assert "uv build" in TEXT
    for step in steps("COPY"):
        *sources, _ = shlex.split(step)
        for source in sources:
            assert (ROOT / source).exists() or fnmatch.fnmatch(wheel, source), source
    assert f"tis-ray:{project['version']}" in TEXT


def test_everything_from_pypi_is_in_the_lock_by_its_hash() -> None:
    commands = [shlex.split(one) for step in steps("RUN") for one in step.split("&&")]
    pips = [command for command in commands if "pip" in " ".join(command[:3])]
    assert len(pips) == 2
    for command in pips:
        assert command[:2] == ["pip", "install"]
        assert "--no-deps" in command
        assert {"--require-hashes", "/tmp/requirements.lock"} <= set(command) or "--no-index" in command
    lock = (ROOT / "requirements.lock").read_text()
    pinned = re.findall(r"^[a-z0-9][^\s=]*==\S+.*\\$", lock, flags=re.MULTILINE)
    assert len(pinned) > 100
    assert lock.count("--hash=sha256:") >= len(pinned)


def test_it_does_not_run_as_root() -> None:
    users = steps("USER")
    assert users == ["1000:1000"]
    assert [name for name, _ in STEPS].index("USER") > max(i for i, (name, _) in enumerate(STEPS) if name == "RUN")


def test_it_has_the_python_that_the_project_asks_for() -> None:
    (base,) = steps("FROM")
    assert re.fullmatch(r"python:3\.(1[1-9])-slim-\w+", base)
