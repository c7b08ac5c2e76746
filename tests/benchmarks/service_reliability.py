"""What the service does on bad days, by the tests that make them: their outcome and figures for `docs/reliability.md`.

    python -m tests.benchmarks.service_reliability [kills|stopping|given-up|overload|soak ...]

Each part is a few slow tests, run in a pytest of its own; what they print is written between the part's marks, whether
they pass or not. Without names all parts are run, one after the other. Ends with 1 where a test failed.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from tests.benchmarks import pages

PAGE = pages.DOCS / "reliability.md"
ROOT = Path(__file__).parents[2]
PARTS = {
    "kills": ["tests/serving/test_bad_days.py", "tests/submission/test_kill.py"],
    "stopping": ["tests/serving/test_shutdown.py"],
    "given-up": ["tests/serving/load/test_given_up.py"],
    "overload": ["tests/serving/load/test_overload.py"],
    "soak": ["tests/serving/load/test_soak.py"],
}
RAYS_OWN = re.compile(r"(#x1B\[\d+m)?\((raylet|autoscaler|[\w:@.]+ pid=\d+)\b")


class Outcome(NamedTuple):
    """One test: its name in words, whether it passed, its seconds, and the lines that it printed."""

    name: str
    passed: bool
    seconds: float
    printed: str


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts that are asked for, print what they tell and put it between their marks of the page."""
    parser = argparse.ArgumentParser(description="Figures of the slow tests of the service for docs/reliability.md.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; default: all")
    asked = parser.parse_args(arguments).parts or list(PARTS)
    if unknown := [name for name in asked if name not in PARTS]:
        parser.error(f"parts: expected {', '.join(PARTS)}; got {', '.join(unknown)}")
    failed = False
    for name in asked:
        outcomes = run(PARTS[name])
        text = f"{pages.machine('ray')}\n\n{in_words(outcomes)}"
        print(f"{name}\n\n{text}\n", flush=True)
        pages.write(PAGE, name, text)
        failed |= not all(one.passed for one in outcomes)
    sys.exit(failed)


def run(files: Sequence[str]) -> list[Outcome]:
    """The outcomes of all tests in these files. Raises `RuntimeError` where pytest ran none."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.xml"
        options = ["-m", "not gpu", "-p", "no:cacheprovider", f"--junitxml={report}", "-o", "junit_logging=system-out"]
        command = [sys.executable, "-m", "pytest", *options, *files]
        ended = subprocess.run(command, cwd=ROOT, env=os.environ, check=False, stdout=sys.stderr)
        outcomes = list(read(report)) if report.exists() else []
    if not outcomes:
        raise RuntimeError(f"pytest ran none of {', '.join(files)} and ended with {ended.returncode}")
    return outcomes


def read(report: Path) -> Iterator[Outcome]:
    """The tests in a JUnit report of pytest, skipped ones left out."""
    for case in ElementTree.parse(report).iter("testcase"):
        if case.find("skipped") is not None:
            continue
        passed = case.find("failure") is None and case.find("error") is None
        name = case.attrib["name"].removeprefix("test_").replace("_", " ")
        yield Outcome(name, passed, float(case.attrib["time"]), _printed(case.findtext("system-out") or ""))


def _printed(output: str) -> str:
    """What the test itself printed, without pytest's headings and what Ray's processes say between."""
    lines = [line.rstrip() for line in output.splitlines() if not line.startswith("------")]
    lines = [line for line in lines if not RAYS_OWN.match(line)]
    return "\n".join(lines).strip()


def in_words(outcomes: Sequence[Outcome]) -> str:
    """Each test's name and outcome, and below it what it printed."""
    parts = []
    for one in outcomes:
        held = f"held, {one.seconds:.0f} s" if one.passed else f"NOT held, {one.seconds:.0f} s"
        parts.append(f"**{one.name[:1].upper()}{one.name[1:]}**: {held}.")
        parts += [one.printed] if one.printed else []
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
