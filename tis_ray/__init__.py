"""tis-ray: tiny-object detection and segmentation with multi-scale ensembles, on Ray.

Importing the package is cheap: PyTorch and Ray are imported by the parts that use them.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tis_ray.fusion.fuse import fuse
    from tis_ray.inference.ensemble import load
    from tis_ray.instances import Annotations, Categories, Instances
    from tis_ray.masks import BoxMasks, CropMasks
    from tis_ray.serving.async_client import AsyncClient
    from tis_ray.serving.client import Client
    from tis_ray.views import View

__version__ = "0.1.0"

_HOMES = {
    "Annotations": "tis_ray.instances",
    "AsyncClient": "tis_ray.serving.async_client",
    "BoxMasks": "tis_ray.masks",
    "Categories": "tis_ray.instances",
    "Client": "tis_ray.serving.client",
    "CropMasks": "tis_ray.masks",
    "Instances": "tis_ray.instances",
    "View": "tis_ray.views",
    "fuse": "tis_ray.fusion.fuse",
    "load": "tis_ray.inference.ensemble",
}

__all__ = [
    "Annotations",
    "AsyncClient",
    "BoxMasks",
    "Categories",
    "Client",
    "CropMasks",
    "Instances",
    "View",
    "fuse",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tis_ray' has no attribute {name!r}; it has {', '.join(__all__)}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
