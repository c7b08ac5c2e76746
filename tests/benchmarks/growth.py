"""How the time of the merge rules grows from 1000 to 100 000 boxes, as figures and as a plot."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.benchmarks.generate import Detections, all_overlapping, growing
from tests.benchmarks.rules import rule
from tests.benchmarks.timing import several
from tis_ray.instances import Instances

RULES: dict[str, dict[str, dict[str, object]]] = {
    "nms": {"nms": {}},
    "soft_nms": {"soft_nms": {}},
    "nms 0.7, soft_nms": {"nms": {"iou_threshold": 0.7}, "soft_nms": {}},
    "nms, vote": {"nms": {}, "vote": {}},
    "wbf": {"wbf": {}},
    "nmw": {"nmw": {}},
}
COUNTS = (1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)
CROWDED = (1000, 2000, 5000, 10_000)
LIMIT_S = 20.0  # a size that takes longer ends its curve


Curves = dict[str, list[tuple[int, float]]]


def curves(generate: Callable[[int], Detections], counts: tuple[int, ...]) -> Curves:
    """Seconds of each rule at each number of boxes: the minimum of five calls, or of one that takes long."""
    found: Curves = {name: [] for name in RULES}
    for name, rules in RULES.items():
        rule(generate(200), **rules)()  # compiles
        for count in counts:
            merge: Callable[[], Instances] = rule(generate(count), **rules)
            (seconds,) = several(merge, 1)
            if seconds < 1:
                seconds = min(several(merge, 5))
            found[name].append((count, seconds))
            if seconds > LIMIT_S:
                break
    return found


def measure() -> tuple[Curves, Curves]:
    """Of boxes at one density in a growing image, and of boxes that all overlap."""
    return curves(growing, COUNTS), curves(all_overlapping, CROWDED)


def exponent(curve: list[tuple[int, float]]) -> float:
    """The slope of the logarithms, by least squares: 1 is linear, 2 quadratic."""
    counts, seconds = np.array(curve).T
    return float(np.polyfit(np.log(counts), np.log(seconds), 1)[0])


def plot(sparse: Curves, crowded: Curves, path: Path) -> None:
    """Both cases side by side, on logarithmic axes with a dashed line of slope 1.3."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(11, 4.6), constrained_layout=True)
    titles = ("ten duplicates an object, one density", "every box on every other")
    for axes, found, title in zip(panels, (sparse, crowded), titles, strict=True):
        for name, curve in found.items():
            counts, seconds = np.array(curve).T
            axes.plot(counts, seconds * 1e3, marker="o", markersize=4, label=f"{name} ({exponent(curve):.2f})")
        start = min(seconds for curve in found.values() for _, seconds in curve[:1]) * 1e3
        counts = np.array([count for count, _ in max(found.values(), key=len)])
        axes.plot(counts, start * (counts / counts[0]) ** 1.3, "--", color="grey", label="slope 1.3")
        axes.set(xscale="log", yscale="log", xlabel="boxes", ylabel="ms", title=title)
        axes.grid(which="both", alpha=0.25)
        axes.legend(title="rule (exponent)", fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)
