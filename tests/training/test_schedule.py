"""Learning rates worked out by hand."""

import pytest

from tis_ray.training.schedule import WarmupSteps


@pytest.mark.parametrize(
    ("step", "lr"),
    [
        pytest.param(0, 0.005, id="starts at lr * factor"),
        pytest.param(1, 0.00875, id="a quarter of the way from 0.25 to 1"),
        pytest.param(2, 0.0125, id="half way"),
        pytest.param(4, 0.02, id="warm"),
        pytest.param(29, 0.02, id="last step before the first milestone"),
        pytest.param(30, 0.002, id="epoch 3 begins"),
        pytest.param(44, 0.002, id="last step before epoch 4.5"),
        pytest.param(45, 0.0002, id="half epochs count"),
        pytest.param(1000, 0.0002, id="ever after"),
    ],
)
def test_known_rates(step, lr):
    schedule = WarmupSteps(
        0.02, steps_per_epoch=10, milestones=(3, 4.5), gamma=0.1, warmup_iterations=4, warmup_factor=0.25
    )
    assert schedule(step) == pytest.approx(lr)


def test_torchvisions_reference_warm_up():
    """LinearLR(start_factor=1/1000, total_iters=1000), as in torchvision's detection references, at step 500."""
    schedule = WarmupSteps(0.02, steps_per_epoch=7330, warmup_iterations=1000, warmup_factor=1 / 1000)
    assert schedule(500) == pytest.approx(0.02 * (0.001 + 0.999 / 2))


def test_no_warm_up_and_no_milestone_is_constant():
    schedule = WarmupSteps(0.1, steps_per_epoch=5)
    assert {schedule(step) for step in range(20)} == {0.1}


def test_a_milestone_inside_the_warm_up_counts():
    schedule = WarmupSteps(1.0, steps_per_epoch=2, milestones=(1,), gamma=0.5, warmup_iterations=4, warmup_factor=0.5)
    assert [schedule(step) for step in range(5)] == pytest.approx([0.5, 0.625, 0.375, 0.4375, 0.5])
