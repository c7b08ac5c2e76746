"""Which proposals may become training regions at all (MegDetV2 2019)."""

import torch
from torch import Tensor

from tis_ray.models.roi_sampling import Candidates
from tis_ray.models.roi_sampling._ranks import rank_within


def own_boxes(candidates: Candidates) -> Tensor:
    """Bool (N,): the last G candidates, which are the objects' own boxes."""
    places = torch.arange(len(candidates.overlaps), device=candidates.overlaps.device)
    return places >= len(places) - len(candidates.object_labels)


def shortlist(candidates: Candidates, *, by_score: int | None, by_iou: int) -> Tensor:
    """Bool (N,): the `by_score` best proposals, the `by_iou` that overlap an object most, and the objects' own boxes.

    Everything where `by_score` is None. Of equal overlaps the better proposal comes first.
    """
    own = own_boxes(candidates)
    if by_score is None:
        return own | True
    places = torch.arange(len(own), device=own.device)
    return own | (places < by_score) | (rank_within(own.long(), candidates.overlaps) < by_iou)
