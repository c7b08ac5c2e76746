"""No pyramid: the backbone's map of stride 16 alone (Ren et al. 2015), its last stage a head shared by the branches."""

from collections.abc import Sequence

from torch import Tensor, nn


class C4(nn.Module):
    """One level "0" of stride 16, with as many channels as the backbone's third map."""

    strides = (16,)
    roi_levels = 1
    leaves_last_stage = True

    def __init__(self, in_channels: Sequence[int]) -> None:
        super().__init__()
        self.out_channels = in_channels[2]

    def forward(self, maps: list[Tensor]) -> dict[str, Tensor]:
        """The backbone's three maps, finest first, to the last one."""
        return {"0": maps[2]}


def build(in_channels: Sequence[int]) -> C4:
    """The third of the backbone's maps as it is; `in_channels` are those of all four."""
    return C4(in_channels)
