"""The neck without a pyramid: one map, as the backbone made it."""

import torch

from tis_ray.menu import pick


def test_the_map_of_stride_16_is_the_only_level() -> None:
    neck = pick("tis_ray.models.necks", "build", "c4", key="neck")((4, 8, 12, 16))
    maps = [torch.rand(2, 4, 16, 24), torch.rand(2, 8, 8, 12), torch.rand(2, 12, 4, 6)]
    levels = neck(maps)
    assert list(levels) == ["0"]
    assert levels["0"] is maps[2]
    assert (neck.out_channels, neck.strides, neck.roi_levels, neck.leaves_last_stage) == (12, (16,), 1, True)
    assert not list(neck.state_dict())
