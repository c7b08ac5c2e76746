"""Stuff supervision: a branch learns what every place shows, background too (Hybrid Task Cascade, Chen et al. 2019).

What is learnt there reaches the objects through the pyramid that both share. Predicting it is nobody's wish: when
testing the branch is left alone (MegDetV2, COCO 2019).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tis_ray.models.pyramid_align import Features

UNKNOWN = 255
STRIDE = 8


class StuffBranch(nn.Module):
    """Levels of a pyramid, brought to one stride and added, four convolutions and a label for each place.

    in_channels: of the levels
    strides:     of those that are looked at, the first ones; labels are of stride 8 where one of them is, else of the
                 finest one's
    num_classes: labels, from 0
    weight:      of the loss
    """

    def __init__(
        self, in_channels: int, strides: Sequence[int], *, num_classes: int, convs: int, channels: int, weight: float
    ) -> None:
        super().__init__()
        self.level = strides.index(STRIDE) if STRIDE in strides else 0
        self.stride = strides[self.level]
        self.weight = weight
        self.laterals = nn.ModuleList(nn.Conv2d(in_channels, channels, 1) for _ in strides)
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(convs))
        self.logits = nn.Conv2d(channels, num_classes, 1)
        for layer in (*self.laterals, *self.convs):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.logits.weight, std=0.01)  # at first every label is about as likely
        nn.init.zeros_(self.logits.bias)

    def forward(self, features: Features, maps: Sequence[Tensor | None]) -> dict[str, Tensor]:
        """The loss, float32: the mean cross entropy of the places whose label is known; 0 where none is.

        maps: each image's labels, uint8 (h_i, w_i) in the network frame, 255 where unknown; or None for all unknown
        """
        logits = self.predict(features).float()  # (B, classes, H / stride, W / stride)
        labels = self.labels(maps, logits)
        total = F.cross_entropy(logits, labels, ignore_index=UNKNOWN, reduction="sum")
        return {"loss_stuff": self.weight * total / (labels != UNKNOWN).sum().clamp(min=1)}

    def predict(self, features: Features) -> Tensor:
        """Logits (B, classes, H / stride, W / stride)."""
        values = F.relu(self.laterals[self.level](features[str(self.level)]), inplace=True)
        size = values.shape[-2:]
        for i, lateral in enumerate(self.laterals):
            if i != self.level:
                values = values + self._brought(features[str(i)], lateral, size, finer=i < self.level)
        for conv in self.convs:
            values = F.relu(conv(values), inplace=True)
        return self.logits(values)

    @staticmethod
    def _brought(level: Tensor, lateral: nn.Module, size: torch.Size, *, finer: bool) -> Tensor:
        """A level (B, C, h, w) behind its convolution at another size; that one is computed where maps are small."""
        if finer:
            level = F.interpolate(level, size, mode="bilinear", align_corners=False)
        level = F.relu(lateral(level), inplace=True)
        return level if finer else F.interpolate(level, size, mode="bilinear", align_corners=False)

    def labels(self, maps: Sequence[Tensor | None], logits: Tensor) -> Tensor:
        """What lies in the middle of each place, int64 (B, H / stride, W / stride); unknown beyond an image."""
        found = torch.full((len(maps), *logits.shape[-2:]), UNKNOWN, dtype=torch.uint8, device=logits.device)
        for places, labels in zip(found, maps, strict=True):
            if labels is not None:
                middles = labels[self.stride // 2 :: self.stride, self.stride // 2 :: self.stride]
                places[: middles.shape[0], : middles.shape[1]] = middles
        return found.long()
