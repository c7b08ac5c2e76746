"""Who goes into the validation set: nothing is parted, every class stays in training, and the share is met."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from tis_ray.curation.split import choose
from tis_ray.errors import ConfigError


def drawn(seed: int, num_groups: int, num_classes: int = 6) -> tuple[list[str], list[list[int]]]:
    """Images of groups of 1 to 20, the classes later in the row rarer."""
    rng = np.random.default_rng(seed)
    groups, classes = [], []
    for group in range(num_groups):
        seen = [c for c in range(num_classes) if rng.random() < 1.2 / (c + 1)]
        for _ in range(int(rng.integers(1, 21))):
            groups.append(f"video {group}")
            classes.append([int(one) for one in rng.choice(seen, 3)] if seen else [])
    return groups, classes


def untrained(chosen: set[str], groups: list[str], classes: list[list[int]]) -> int:
    train = {c for group, own in zip(groups, classes, strict=True) if group not in chosen for c in own}
    return len({c for own in classes for c in own} - train)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_few_groups_no_choice_is_better(seed: int, share: float):
    groups, classes = drawn(seed, 8)
    sizes = Counter(groups)

    def cost(chosen: set[str]) -> tuple[int, float]:
        return untrained(chosen, groups, classes), abs(sum(sizes[name] for name in chosen) - share * len(groups))

    names = sorted(sizes)
    every = [set(some) for number in range(1, 8) for some in combinations(names, number)]
    assert cost(choose(groups, classes, share=share, seed=seed)) == min(map(cost, every))


@pytest.mark.parametrize("seed", range(4))
def test_many_groups_meet_the_share_and_leave_every_class_in_training(seed: int):
    groups, classes = drawn(seed, 60, num_classes=30)
    chosen = choose(groups, classes, share=0.2, seed=seed)
    assert untrained(chosen, groups, classes) == 0
    assert sum(group in chosen for group in groups) == pytest.approx(0.2 * len(groups), abs=1)


def test_images_alone_are_parted_to_the_image_with_classes_shared_out():
    rng = np.random.default_rng(0)
    classes = [[int(c)] for c in np.minimum(rng.geometric(0.4, 1000), 9)]
    chosen = choose([str(i) for i in range(1000)], classes, share=0.25, seed=1)
    assert len(chosen) == 250
    of_val = Counter(classes[int(name)][0] for name in chosen)
    for class_, number in Counter(own[0] for own in classes).items():
        assert of_val[class_] > 0
        assert of_val[class_] / number == pytest.approx(0.25, abs=0.15 if number > 50 else 0.5)


def test_the_only_group_of_a_class_stays_in_training():
    groups = [f"{i}" for i in range(30)]
    classes = [[i // 2] for i in range(28)] + [[99], [100]]
    for seed in range(5):
        chosen = choose(groups, classes, share=0.5, seed=seed)
        assert not chosen & {"28", "29"}
        assert untrained(chosen, groups, classes) == 0


def test_where_every_group_has_a_class_of_its_own_there_is_a_split_all_the_same():
    for number in (3, 40):
        chosen = choose([f"{i}" for i in range(number)], [[i] for i in range(number)], share=0.2)
        assert len(chosen) == 1


def test_the_same_seed_chooses_the_same_and_another_does_not():
    groups, classes = drawn(0, 60)
    first = choose(groups, classes, share=0.2, seed=3)
    assert choose(groups, classes, share=0.2, seed=3) == first
    assert any(choose(groups, classes, share=0.2, seed=seed) != first for seed in range(3))


def test_images_without_objects_are_parted_too():
    assert len(choose([str(i) for i in range(10)], [[]] * 10, share=0.3)) == 3
    assert len(choose([str(i) for i in range(20)], [[]] * 20, share=0.99)) == 19, "training has an image, too"


def test_one_group_cannot_be_parted():
    with pytest.raises(ConfigError, match="expected at least two groups of images to part; got 1"):
        choose(["a", "a"], [[1], [2]], share=0.5)
