"""Where a run is and how far it has to go, against runs that are counted step by step."""

import math
from fractions import Fraction

import numpy as np
import pytest

from tis_ray.data.plan import Draw, share
from tis_ray.training.position import Course, Position
from tis_ray.training.schedule import WarmupSteps


def steps_of(course: Course, begin: Position, world_size: int) -> list[Position]:
    """The positions after each step, counted by handing batches out."""
    positions, position = [], begin
    while position < course.end:
        batches = [[Draw(i)] for i in range(course.batches)]
        dealt = [share(batches, start=position.batches, rank=rank, world_size=world_size) for rank in range(world_size)]
        for first in range(0, len(dealt[0]), course.accumulate):
            taken = sum(len(own[first : first + course.accumulate]) for own in dealt)
            position = course.after(position, taken)
            positions.append(position)
            if position >= course.end:
                break
    return positions


@pytest.mark.parametrize("seed", range(20))
def test_steps_iterations_and_what_is_left_are_what_counting_says(seed):
    rng = np.random.default_rng(seed)
    batches, workers, accumulate, epochs = (int(rng.integers(1, most)) for most in (24, 5, 4, 4))
    iterations = int(rng.integers(1, 40)) if rng.random() < 0.5 else None
    course = Course(batches=batches, workers=workers, accumulate=accumulate, epochs=epochs, iterations=iterations)
    positions = steps_of(course, Position(), workers)
    assert course.iterations_per_epoch == math.ceil(math.ceil(Fraction(batches, workers)) / Fraction(accumulate))
    assert [course.iteration(position) for position in positions] == list(range(1, len(positions) + 1))
    assert len(positions) == (epochs * course.iterations_per_epoch if iterations is None else iterations)
    for world_size in range(1, workers + 1):
        for begin in [Position(), *positions[::3], positions[-1]]:
            left = steps_of(course, begin, world_size)
            assert course.steps_left(begin, world_size=world_size) == len(left)


def test_an_epoch_taken_by_changing_numbers_of_workers_skips_nothing_and_repeats_nothing_but_at_its_end():
    rng = np.random.default_rng(0)
    batches = [[Draw(i)] for i in range(37)]
    course = Course(batches=37, workers=4)
    for _ in range(50):
        taken, position = [], Position()
        while position.epochs == 0:
            world_size, steps = int(rng.integers(1, 5)), int(rng.integers(1, 6))
            dealt = [share(batches, start=position.batches, rank=r, world_size=world_size) for r in range(world_size)]
            for step in range(min(steps, len(dealt[0]))):
                taken += [own[step][0].index for own in dealt]
                position = course.after(position, world_size)
        assert taken[:37] == list(range(37))
        assert taken[37:] == list(range(len(taken) - 37))
        assert len(taken) - 37 < 4


def test_an_end_by_iterations_may_lie_inside_an_epoch():
    course = Course(batches=10, workers=2, accumulate=2, iterations=7)  # epochs of 3 iterations: 4, 4 and 2 batches
    assert course.end == (2, 4)
    assert Course(batches=10, workers=2, accumulate=2, iterations=6).end == (2, 0)
    assert course.iteration(Position(1, 4)) == 4
    assert course.iteration(Position(1, 2)) == 3.5  # one worker's step of accumulated batches


def test_fewer_workers_see_the_rate_of_the_position():
    """Two of four workers: steps half as long, so each milestone comes after twice as many."""
    course = Course(batches=40, workers=4, epochs=3)
    rate = WarmupSteps(1.0, course.iterations_per_epoch, milestones=(1, 2), gamma=0.1, warmup_iterations=2)
    rates = [rate(course.iteration(position)) for position in [Position(), *steps_of(course, Position(), 2)]]
    assert rates[:5] == pytest.approx([1 / 3, 1 / 2, 2 / 3, 5 / 6, 1])
    assert rates[19:21] == pytest.approx([1, 0.1])
    assert rates[39:41] == pytest.approx([0.1, 0.01])


def test_positions_say_where_they_are():
    assert [str(Position(*one)) for one in ((0, 0), (1, 0), (3, 1200))] == [
        "0 epochs", "1 epoch", "3 epochs and 1200 batches"
    ]  # fmt: skip
