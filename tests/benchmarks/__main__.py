"""All benchmarks of fusion, masks and training samples: prints the tables and writes them, with the plot, into
`docs/benchmarks.md`.

    make benchmarks

Each row is one task done by the peer and by tis-ray in this process, in turn, on one thread.
"""

import platform
import re
from importlib.metadata import version
from pathlib import Path

import torch

from tests.benchmarks import data_pipeline, growth, masks, openvino_peer, rules, whole
from tests.benchmarks.timing import Row

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
PLOT = PAGE.parent / "images" / "growth.png"
_FIGURES = re.compile(r"(<!-- figures -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def main() -> None:
    """Run everything, print it, and put it between the marks of the page."""
    torch.set_num_threads(1)  # the other libraries and the kernels here use one anyway
    parts = [_machine(), "### Masks", _table(masks.rows())]
    parts.append(f"Peak memory above the process while 500 patches become RLEs: {masks.extra_memory_mb():.1f} MB.")
    for num_classes in rules.CLASSES:
        parts += [f"### Rules, 20 views, 4000 boxes, {num_classes} classes", _table(rules.rows(num_classes))]
    if not openvino_peer.is_installed():
        parts.append(
            "OpenVINO was not installed here: the row of NMS and then soft-NMS, which it takes part in, is left out."
        )
    parts += ["### Whole fusion, 20 views x 300 instances", _table(whole.rows())]
    sparse, crowded = growth.measure()
    growth.plot(sparse, crowded, PLOT)
    parts += ["### Growth", _growth_table(sparse), "![Time of each rule by the number of boxes](images/growth.png)"]
    figures = "\n\n".join(parts)
    PAGE.write_text(_FIGURES.sub(lambda match: f"{match[1]}\n{figures}\n\n{match[2]}", PAGE.read_text()))
    print(figures)
    if (wad := data_pipeline.frames()) is not None:
        data_pipeline.write(wad)


def _machine() -> str:
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    names = ["torch", "torchvision", "pycocotools", "ensemble-boxes", "numba", "numpy"]
    names += ["openvino"] if openvino_peer.is_installed() else []
    packages = ", ".join(f"{name} {version(name)}" for name in names)
    return f"{model[1] if model else platform.processor()}, one thread; Python {platform.python_version()}, {packages}."


def _table(rows: list[Row]) -> str:
    lines = ["| task | peer | peer, ms | tis-ray, ms | ratio | must be |", "|---|---|---|---|---|---|"]
    for row in rows:
        theirs, ours = (f"{t.median * 1e3:.2f} ({t.minimum * 1e3:.2f})" for t in (row.theirs, row.ours))
        lines.append(f"| {row.task} | {row.peer} | {theirs} | {ours} | **{row.ratio:.0f}x** | {row.target:g}x |")
    return "\n".join(lines)


def _growth_table(curves: growth.Curves) -> str:
    counts = growth.COUNTS
    lines = [
        "| rule | " + " | ".join(f"{count:,}".replace(",", " ") for count in counts) + " | exponent |",
        "|---|" + "---|" * (len(counts) + 1),
    ]
    for name, curve in curves.items():
        cells = [f"{seconds * 1e3:.1f}" for _, seconds in curve] + ["-"] * (len(counts) - len(curve))
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {growth.exponent(curve):.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
