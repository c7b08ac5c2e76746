"""Every `bash` block of the README and the docs, executed in order in a fresh clone, as a reader would.

The blocks of one page run in one shell. What a page leaves running is told by a mark in its environment and
stopped when the page ends. Blocks of another language are not run.
"""

import os
import re
import signal
import subprocess
import uuid
from pathlib import Path

import pytest

from tests.processes import MARK, marked_processes

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://)([^)#]+)")
LIMIT_S = 1500


def blocks_of(page: Path) -> list[str]:
    return BLOCK.findall(page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pictures_and_pages_that_are_linked_exist(page: Path) -> None:
    missing = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert not missing


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with its own `.venv`, in which the demo has run, for the pages that follow on from it."""
    folder = tmp_path_factory.mktemp("docs") / "tis-ray"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    subprocess.run(["make", "demo"], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.mark.docs
@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)], ids=lambda page: page.name)
def test_shell_blocks_run(page: Path, clone: Path) -> None:
    script = "set -euo pipefail\n" + "\n".join(blocks_of(page))
    mark = uuid.uuid4().hex
    log = clone.parent / f"{page.stem}.log"
    environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    environment |= {MARK: mark, "PATH": f"{clone / '.venv' / 'bin'}:{os.environ['PATH']}"}
    try:
        with log.open("w") as output:
            code = subprocess.run(
                ["bash", "-c", script], cwd=clone, env=environment, stdout=output, stderr=subprocess.STDOUT,
                timeout=LIMIT_S, check=False,
            ).returncode  # fmt: skip
    finally:
        for process in marked_processes(mark):
            os.kill(process, signal.SIGKILL)
    assert code == 0, f"{page.name} stopped with {code}:\n{log.read_text()[-3000:]}"
