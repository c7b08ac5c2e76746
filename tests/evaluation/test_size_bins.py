"""Fine bins of sizes: AP as pycocotools has it for the same ranges, recall by counting its matches."""

import numpy as np
import pytest

from tests.evaluation.coco_scenes import evaluator, read, scene
from tis_ray.evaluation.overlaps import overlaps
from tis_ray.evaluation.size_bins import bin_names, size_bins, size_ranges

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools
EDGES = (4, 8, 16, 32, 64, 300)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_bins_equal_pycocotools(tmp_path, kind):
    content, results = scene(2)
    dataset = read(tmp_path, content)
    found = size_bins(overlaps(dataset, results, kind=kind), dataset.categories, edges_px=EDGES)
    ranges = [list(size) for size in size_ranges(EDGES)]
    made = evaluator(content, results, kind, areaRng=ranges, maxDets=[100])
    areas = [one["area"] for one in content["annotations"] if not one["iscrowd"]]
    assert found.counts.tolist() == np.histogram(np.sqrt(areas), [0, *EDGES, np.inf])[0].tolist()
    for i in range(len(ranges)):
        precision = made.eval["precision"][:, :, :, i, 0]
        defined = precision[:, :, precision[0, 0] >= 0]
        if not defined.size:
            assert np.isnan([found.ap[i], found.recall50[i]]).all()
            continue
        assert (found.ap[i], found.ap50[i]) == pytest.approx((defined.mean(), defined[0].mean()), abs=1e-12)
        entries = [one for one in made.evalImgs if one is not None and one["aRng"] == ranges[i]]
        hits = sum(((one["dtMatches"] > 0) & ~one["dtIgnore"]).sum(axis=1) for one in entries)
        assert found.recall[i] == pytest.approx(hits.mean() / found.counts[i], abs=1e-12)
        assert found.recall50[i] == pytest.approx(hits[0] / found.counts[i], abs=1e-12)
    assert 3 < np.isfinite(found.ap).sum() < len(ranges)


def test_no_size_is_in_two_bins():
    ranges = size_ranges((8, 16))
    assert [low <= 64 <= high for low, high in ranges] == [False, True, False]
    assert bin_names((8, 16)) == ["<8", "8-16", ">=16"]
    assert (ranges[0][0], ranges[-1][1]) == (0, np.finfo(np.float64).max)


def test_the_bins_are_plain_json(tmp_path):
    content, results = scene(3, images=1, objects=3)
    dataset = read(tmp_path, content)
    entries = size_bins(overlaps(dataset, results), dataset.categories).to_json()
    assert [one["size_px"] for one in entries] == ["<8", "8-16", "16-32", "32-64", "64-128", "128-256", ">=256"]
    assert entries[-1] == {
        "size_px": ">=256", "objects": 0, "AP": None, "AP50": None, "recall": None, "recall50": None
    }  # fmt: skip
