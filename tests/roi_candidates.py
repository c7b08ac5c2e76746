"""Candidate regions for tests of samplers: written down, or by chance."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tis_ray.models.roi_sampling import Candidates


def written(overlaps: Sequence[float], matched: Sequence[int], object_labels: Sequence[int]) -> Candidates:
    """Proposals of these overlaps with these objects, best first, and after them the objects' own boxes."""
    num_objects = len(object_labels)
    all_matched = torch.tensor([*matched, *range(num_objects)], dtype=torch.int64)
    labels = torch.tensor(object_labels, dtype=torch.int64)
    all_overlaps = torch.tensor([*overlaps] + [1.0] * num_objects)
    return Candidates(
        boxes=_boxes(all_overlaps, all_matched),
        overlaps=all_overlaps,
        matched=all_matched,
        labels=labels[all_matched] if num_objects else torch.zeros_like(all_matched),
        ignored=torch.zeros(len(all_matched), dtype=torch.bool),
        object_labels=labels,
    )


def _boxes(overlaps: Tensor, matched: Tensor) -> Tensor:
    """Object i has sides of 10 (i + 1) px; what overlaps it is narrower by as much, what does not lies elsewhere."""
    sides = 10.0 * (matched + 1)
    left = 1000.0 * matched + 500 * (overlaps == 0)
    width = torch.where(overlaps == 0, sides, sides * overlaps)
    return torch.stack([left, torch.zeros_like(left), left + width, sides], dim=1)


def by_chance(num_proposals: int, num_objects: int, *, num_classes: int = 3, seed: int = 0) -> Candidates:
    """Overlaps with ties, a third of them 0; a fifth of the proposals lies in a region to ignore."""
    generator = torch.Generator().manual_seed(seed)
    overlaps = (torch.randint(-15, 31, (num_proposals,), generator=generator) / 30).clamp(min=0) * (num_objects > 0)
    matched = torch.randint(max(num_objects, 1), (num_proposals,), generator=generator) * (overlaps > 0)
    labels = torch.randint(1, num_classes + 1, (num_objects,), generator=generator)
    found = written(overlaps.tolist(), matched.tolist(), labels.tolist())
    ignored = torch.rand(num_proposals, generator=generator) < 0.2
    return found._replace(ignored=torch.cat([ignored, torch.zeros(num_objects, dtype=torch.bool)]))


def positives_of(candidates: Candidates, sampler: object, **settings: object) -> list[int]:
    """Candidates that `sampler` made positives, in ascending order."""
    sample = sampler(candidates, **settings)
    return sorted(sample.index[sample.labels > 0].tolist())


def negatives_of(candidates: Candidates, sampler: object, **settings: object) -> list[int]:
    """Candidates that `sampler` made negatives, in ascending order."""
    sample = sampler(candidates, **settings)
    return sorted(sample.index[sample.labels == 0].tolist())
