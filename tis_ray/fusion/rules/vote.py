"""Box voting (Gidaris and Komodakis 2015, as in Detectron; TIS, WAD 2018): a kept box is moved to its voters' mean."""

from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from tis_ray.fusion.pool import Pool
from tis_ray.instances import Instances
from tis_ray.ops import voting


def merge(
    instances: Instances,
    pool: Pool,
    *,
    iou_threshold: Annotated[float, Field(gt=0, le=1)] = 0.9,
    scores: Literal["id", "avg"] = "id",
    class_agnostic: bool = False,
) -> Instances:
    """Move each box to the mean, weighted by score, of the pool's boxes that overlap it: of its class, or of any.

    Those are the boxes whose IoU with it is `iou_threshold` or more, with their scores before any rule. `id` keeps the
    score; `avg` makes it the mean of theirs, which may be more than it was: a better voter may have been dropped for
    another box's sake, and the box itself votes with the score it had before it was decayed. A box without voters, or
    whose voters all score 0, stays as it is. Masks keep their own frames.
    """
    voters = pool.instances
    own, theirs = instances.labels, voters.labels
    if class_agnostic:
        own, theirs = np.zeros_like(own), np.zeros_like(theirs)
    boxes, means = voting.vote(instances.boxes, own, voters.boxes, voters.scores, theirs, iou_threshold=iou_threshold)
    voted = replace(instances, boxes=boxes)
    if scores == "avg":
        voted = voted.with_scores(np.where(np.isnan(means), instances.scores, means))
    return voted[np.argsort(-voted.scores, kind="stable")]
