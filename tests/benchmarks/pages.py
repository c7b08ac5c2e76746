"""Where figures go: between the marks `<!-- NAME -->` and `<!-- end of NAME -->` of a page."""

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def write(page: Path, name: str, text: str) -> None:
    """Put `text` between the marks `name` of a page. Raises `ValueError` where it does not have them once."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
    content, count = pattern.subn(lambda match: f"{match[1]}\n{text}\n\n{match[2]}", page.read_text())
    if count != 1:
        raise ValueError(f"{page}: expected the marks of '{name}' once; got {count} times")
    page.write_text(content)


def read(page: Path, name: str) -> str:
    """What stands between the marks `name` of a page, "" where there is nothing."""
    match = re.search(rf"<!-- {name} -->\n(.*?)<!-- end of {name} -->", page.read_text(), re.DOTALL)
    return match[1].strip() if match else ""


def machine(*packages: str) -> str:
    """Processor, cores that this process may use, the load on them, and versions of the packages, in one line."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    return (
        f"{model[1] if model else platform.processor()}, {cores} cores, load average {load:.1f} at the end; "
        f"Python {platform.python_version()}, {versions}."
    )
