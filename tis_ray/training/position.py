"""Where a run is, counted in batches of the epoch's plan, whatever number of workers has got it there."""

from dataclasses import dataclass
from typing import NamedTuple


class Position(NamedTuple):
    """How far a run has got: finished `epochs`, and `batches` finished since then, of all workers together."""

    epochs: int = 0
    batches: int = 0

    def __str__(self) -> str:
        epochs = f"{self.epochs} epoch{'' if self.epochs == 1 else 's'}"
        return f"{epochs} and {self.batches} batches" if self.batches else epochs


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """A run's way through its data.

    batches:    of an epoch, all workers together
    workers:    the number that the schedule is meant for; there may be fewer
    accumulate: batches that each worker takes for one step
    epochs:     after which the run ends, unless `iterations` are given: steps of the number of workers it is meant for
    """

    batches: int
    workers: int
    accumulate: int = 1
    epochs: int = 1
    iterations: int | None = None

    @property
    def iterations_per_epoch(self) -> int:
        """Steps of the number of workers that the schedule is meant for; the last one may be of fewer batches."""
        return self.steps(self.batches, world_size=self.workers)

    @property
    def end(self) -> Position:
        """Where the run ends."""
        if self.iterations is None:
            return Position(self.epochs)
        epochs, left = divmod(self.iterations, self.iterations_per_epoch)
        return Position(epochs, left * self.workers * self.accumulate)

    def iteration(self, position: Position) -> float:
        """Iterations finished at `position`: a whole number where no other number of workers was at work."""
        return position.epochs * self.iterations_per_epoch + position.batches / (self.workers * self.accumulate)

    def after(self, position: Position, batches: int) -> Position:
        """Where `batches` more lead, at most to the end of the epoch."""
        done = position.batches + batches
        return Position(position.epochs + 1) if done >= self.batches else Position(position.epochs, done)

    def steps(self, batches: int, *, world_size: int) -> int:
        """How many steps so many batches of one epoch are for `world_size` workers."""
        return -(-batches // (world_size * self.accumulate))

    def steps_left(self, position: Position, *, world_size: int) -> int:
        """How many steps of `world_size` workers lead from `position` to the end of the run."""
        end = self.end
        if position >= end:
            return 0
        if position.epochs == end.epochs:
            return self.steps(end.batches - position.batches, world_size=world_size)
        whole = end.epochs - position.epochs - 1
        parts = self.batches - position.batches, *[self.batches] * whole, end.batches
        return sum(self.steps(part, world_size=world_size) for part in parts)
