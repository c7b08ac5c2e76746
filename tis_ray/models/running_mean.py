"""A running mean of a detector's weights, which is tested in their place (Polyak and Juditsky 1992)."""

import copy

import torch

from tis_ray.models.detector import Detector


class RunningMean:
    """`detector` is a copy of the one that learns; after each step its weights are decay * own + (1 - decay) * new.

    Float buffers, such as the statistics of norms, are averaged as weights are; the others are the newest. Nothing of
    it waits for the device. The learning detector must keep its tensors, as loading a state and optimisers do.
    """

    def __init__(self, learning: Detector, *, decay: float) -> None:
        self.detector = copy.deepcopy(learning).requires_grad_(False).eval()
        self._decay = decay
        pairs = list(zip(self.detector.state_dict().values(), learning.state_dict().values(), strict=True))
        self._averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        self._newest = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        own, new = (list(side) for side in zip(*self._averaged, strict=True))
        torch._foreach_lerp_(own, new, 1 - self._decay)
        for one, newest in self._newest:
            one.copy_(newest)
