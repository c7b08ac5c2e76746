"""The learning rate as a function of the step alone, so that resuming needs no scheduler state."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WarmupSteps:
    """Linear warm-up from `lr * warmup_factor`, then `lr` times `gamma` for each milestone passed.

    `milestones` are epochs and may be fractions; `steps_per_epoch` turns them into steps (rounded). A milestone
    inside the warm-up takes effect there too.
    """

    lr: float
    steps_per_epoch: int
    milestones: Sequence[float] = ()
    gamma: float = 0.1
    warmup_iterations: int = 0
    warmup_factor: float = 1 / 3

    def __call__(self, step: float) -> float:
        """Learning rate of global step `step`, counted from 0; between two where fewer workers make smaller steps."""
        passed = sum(step >= round(epoch * self.steps_per_epoch) for epoch in self.milestones)
        return self.lr * self._warmup(step) * self.gamma**passed

    def _warmup(self, step: float) -> float:
        if step >= self.warmup_iterations:
            return 1.0
        share = step / self.warmup_iterations
        return self.warmup_factor * (1 - share) + share
