"""What every sampler of the menu keeps to, whatever is found in an image."""

from collections.abc import Iterator

import pytest
import torch

from tests.host_waits import host_waits
from tests.roi_candidates import by_chance, positives_of
from tis_ray.menu import choices, pick
from tis_ray.models.roi_sampling import Candidates, RoiSampler, Sample

# Options that take other branches than the defaults do.
OPTIONS = {
    "high_iou": [{"by_score": 20, "by_iou": 8, "negative_below": 0.5}, {"by_score": None}],
    "class_aware": [{"alpha": "share"}, {"alpha_iou": None, "by_score": 20, "by_iou": 8, "negative_below": 0.5}],
}


def every_sampler() -> Iterator[object]:
    for name in choices("tis_ray.models.roi_sampling"):
        for options in ({}, *OPTIONS.get(name, [])):
            sampler = pick("tis_ray.models.roi_sampling", "build", name, key="box.sampling")(**options)
            yield pytest.param(sampler, id=f"{name} {options}" if options else name)


def all_ignored(candidates: Candidates) -> Candidates:
    return candidates._replace(ignored=candidates.ignored | True)


IMAGES = [
    pytest.param(by_chance(0, 0), id="nothing"),
    pytest.param(by_chance(40, 0), id="no objects"),
    pytest.param(by_chance(0, 5), id="no proposals"),
    pytest.param(by_chance(1, 0), id="one proposal"),
    pytest.param(by_chance(0, 1), id="one object alone"),
    pytest.param(by_chance(40, 1), id="one object"),
    pytest.param(by_chance(40, 7), id="some"),
    pytest.param(by_chance(40, 30, num_classes=1203), id="as many classes as objects"),
    pytest.param(all_ignored(by_chance(40, 7)), id="all ignored"),
    pytest.param(all_ignored(by_chance(40, 0)), id="all ignored without objects"),
]
# Places, positives at most, and the bound of IoU.
SETTINGS = [(16, 4, 0.5), (16, 0, 0.5), (512, 128, 0.7), (512, 512, 0.0), (3, 3, 1.0), (1, 1, 0.5), (0, 0, 0.5)]
SAMPLERS = list(every_sampler())


def sampled(
    sampler: RoiSampler, candidates: Candidates, *, size: int, max_positives: int, positive_iou: float, seed: int = 0
) -> Sample:
    torch.manual_seed(seed)
    return sampler(candidates, size=size, max_positives=max_positives, positive_iou=positive_iou)


@pytest.mark.parametrize("candidates", IMAGES)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sample_is_what_the_menu_promises(sampler: RoiSampler, candidates: Candidates) -> None:
    before = [values.clone() for values in candidates]
    for size, max_positives, iou in SETTINGS:
        index, labels = sampled(sampler, candidates, size=size, max_positives=max_positives, positive_iou=iou)
        assert index.dtype == labels.dtype == torch.int64
        assert index.shape == labels.shape == (min(size, len(candidates.overlaps)),)
        positive, used = labels > 0, labels >= 0
        assert positive.sum() <= max_positives
        assert len(index[used].unique()) == used.sum(), "no candidate is taken twice"
        assert (labels[positive] == candidates.labels[index[positive]]).all()
        assert set(labels[~positive].tolist()) <= {0, -1}
        assert not candidates.ignored[index[labels == 0]].any()
        assert (positive.sort(descending=True).values == positive).all(), "positives come first"
        assert (used.sort(descending=True).values == used).all(), "unused places come last"
    assert all(torch.equal(old, new) for old, new in zip(before, candidates, strict=True))


@pytest.mark.parametrize("candidates", IMAGES)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_objects_own_boxes_are_positives_where_there_is_room(sampler: RoiSampler, candidates: Candidates) -> None:
    count, num_objects = len(candidates.overlaps), len(candidates.object_labels)
    chosen = positives_of(candidates, sampler, size=count, max_positives=count, positive_iou=0.7)
    assert set(chosen) >= set(range(count - num_objects, count))
    assert num_objects or not chosen


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_overlaps_nothing_is_no_positive_whatever_the_bound(sampler: RoiSampler) -> None:
    candidates = by_chance(40, 7)
    chosen = positives_of(candidates, sampler, size=47, max_positives=47, positive_iou=0.0)
    assert (candidates.overlaps == 0).any()
    assert candidates.overlaps[chosen].min() > 0


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_places_are_filled_while_there_are_candidates(sampler: RoiSampler) -> None:
    candidates = by_chance(400, 7)._replace(ignored=torch.zeros(407, dtype=torch.bool))
    labels = sampled(sampler, candidates, size=9, max_positives=3, positive_iou=0.5).labels
    assert (labels > 0).tolist() == [True] * 3 + [False] * 6
    assert (labels == 0).tolist() == [False] * 3 + [True] * 6


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_seed_samples_the_same(sampler: RoiSampler) -> None:
    settings = {"size": 8, "max_positives": 2, "positive_iou": 0.5}
    candidates = by_chance(60, 7)
    first, again, other = (sampled(sampler, candidates, **settings, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.index, again.index)
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.index, other.index)


@pytest.mark.parametrize("candidates", IMAGES)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_nothing_waits_for_the_device(sampler: RoiSampler, candidates: Candidates) -> None:
    with host_waits() as waits:
        sampler(candidates, size=16, max_positives=4, positive_iou=0.5)
    assert not waits
