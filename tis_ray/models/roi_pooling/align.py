"""RoIAlign (Mask R-CNN, He et al. 2017): the mean of bilinear samples in each cell of a region."""

from pydantic import PositiveInt

from tis_ray.models.pyramid_align import Pyramid, PyramidRoIAlign


def build(
    pyramid: Pyramid, output_size: int, *, sampling_ratio: PositiveInt = 2, aligned: bool = False
) -> PyramidRoIAlign:
    """`sampling_ratio` samples along each side of a cell; `aligned` takes half a pixel of the map off the corners."""
    return PyramidRoIAlign(pyramid, output_size, sampling_ratio=sampling_ratio, aligned=aligned)
