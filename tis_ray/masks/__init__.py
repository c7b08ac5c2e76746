"""Masks kept small. A full height x width mask is formed nowhere in tis-ray but in a picture.

`BoxMasks` are predictions of detectors: probability patches of one size, each stretched over its own box.
`RunMasks` are predictions that are pixels already, as results files hold them: runs of set pixels.
`CropMasks` are ground truth: exact pixels, each a crop of its own size at a whole-pixel place.
"""

from tis_ray.masks.box_masks import BoxMasks
from tis_ray.masks.crop_masks import CropMasks
from tis_ray.masks.index import Index
from tis_ray.masks.run_masks import RunMasks
from tis_ray.ops.patch_runs import Pasting

Masks = BoxMasks | RunMasks  # what predicted instances may carry; both answer alike

__all__ = ["BoxMasks", "CropMasks", "Index", "Masks", "Pasting", "RunMasks"]
