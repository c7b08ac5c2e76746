"""The mean mask of all views (TIS, WAD 2018): every scale and mirror image has one say on an object's outline."""

from typing import Annotated

from pydantic import Field

from tis_ray.fusion import candidates
from tis_ray.fusion.pool import Pool
from tis_ray.instances import Instances
from tis_ray.ops.patches import Of


def select(
    instances: Instances,
    pool: Pool,
    *,
    iou_threshold: Annotated[float, Field(gt=0, le=1)] = 0.5,
    weights: candidates.Weights = "equal",
    of: Of = "probability",
    k: Annotated[int, Field(ge=1)] | None = None,
) -> Instances:
    """Average over the views the mask of the detection that overlaps the fused box most, resampled onto that box.

    It must be of the same class with an IoU of `iou_threshold` or more. At 0.5 that is what NMS at 0.5, the paper's,
    takes for the same object. After a second pass, as the paper's, a view's mask is the one that it predicted for the
    fused box itself; without one the nearest detection's stands in for that.

    `of` takes the mean of probabilities or of logits, where a sure view outweighs unsure ones; masks that are pixels
    already go by their majority either way. `k` asks only the k views whose detections score highest; null, all.
    """
    picks = candidates.find(instances, pool, iou_threshold=iou_threshold)
    if k is not None:
        picks = candidates.strongest(pool, picks, k)
    return candidates.average_masks(instances, pool, picks, weights=weights, of=of)
