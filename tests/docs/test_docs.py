"""Every `bash` block of the README and the docs, executed in order in a clone, as a reader would.

The blocks of one page run in one shell, in a fresh clone of the committed tree that borrows this checkout's
`.venv`. What a block leaves running is stopped when its page ends. Blocks of another language are not run.
"""

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LIMIT_S = 1200


def blocks_of(page: Path) -> list[str]:
    return BLOCK.findall(page.read_text())


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "tis-ray"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    return folder


@pytest.mark.docs
@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)], ids=lambda page: page.name)
def test_shell_blocks_run(page: Path, clone: Path) -> None:
    script = "set -euo pipefail\n" + "\n".join(blocks_of(page))
    path = f"{clone / '.venv' / 'bin'}:{os.environ['PATH']}"
    log = clone.parent / f"{page.stem}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            ["bash", "-c", script],
            cwd=clone,
            env={**os.environ, "PATH": path},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout=LIMIT_S)
        finally:
            stop_group(process.pid)
    assert code == 0, f"{page.name} stopped with {code}:\n{log.read_text()[-3000:]}"


def stop_group(group: int) -> None:
    """Interrupt what the page left in its own process group, as Ctrl-C would."""
    try:
        os.killpg(group, signal.SIGINT)
    except ProcessLookupError:
        return
