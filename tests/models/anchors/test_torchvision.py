"""torchvision's anchors to the bit, but in float32 whatever the maps hold."""

import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from tis_ray.errors import ConfigError
from tis_ray.models.anchors.torchvision import build


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [(32, 32), (96, 3200)])
def test_equals_torchvision_in_float32(size: tuple[int, int], dtype: torch.dtype) -> None:
    maps = [torch.zeros(2, 8, -(-size[0] // s), -(-size[1] // s), dtype=dtype) for s in (4, 8, 16, 32, 64)]
    images = ImageList(torch.zeros(2, 3, *size), [size, size])
    sizes = ((8,), (64,), (128,), (256,), (512,))
    expected = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5)(images, [level.float() for level in maps])
    found = build((4, 8, 16, 32, 64), sizes=sizes)(images, maps)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert found[0].dtype == torch.float32


def test_has_torchvisions_default_sides() -> None:
    assert build((4, 8, 16, 32, 64)).sizes == ((32,), (64,), (128,), (256,), (512,))


def test_sides_that_do_not_fit_the_neck_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected 1 levels"):
        build((16,), sizes=((32,), (64,)))
