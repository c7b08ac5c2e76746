"""Which groups of images become the validation set: about the share that is wanted, every class left in training."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from tis_ray.errors import ConfigError

_ALL_SUBSETS = 14  # groups, up to which every choice is looked at
_TRIES, _MOST_GROUPS = 64, 20_000  # choices that are drawn else; together no more groups than this many times 64

Counts = NDArray[np.int64]
Choices = NDArray[np.bool_]  # (C, G): which of G groups each of C choices takes


def choose(groups: Sequence[str], classes: Sequence[Sequence[int]], *, share: float, seed: int = 0) -> set[str]:
    """The groups that become the validation set.

    groups:  of each image the group that it belongs to
    classes: of each image the classes of its objects, each as often as it has some
    share:   of the images, in 0..1, to be in the validation set

    Both parts have at least one group. Of all choices (with more than 14 groups: of 64 drawn by `seed`) it is the one
    that leaves the fewest classes without an object to train on; then the nearest to `share`; then the one that has
    most classes in the validation set; then the one whose classes are shared out as the images are. Raises
    `ConfigError` where there are not two groups.
    """
    names, place = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
    if len(names) < 2:
        raise ConfigError(f"--by: expected at least two groups of images to part; got {len(names)}")
    sizes = np.bincount(place, minlength=len(names)).astype(np.int64)
    held = _held(place, classes, len(names))
    choices = _subsets(len(names)) if len(names) <= _ALL_SUBSETS else _drawn(sizes, held, share, seed)
    return set(names[choices[_best(choices, sizes, held, share)]].tolist())


def _held(place: Counts, classes: Sequence[Sequence[int]], num_groups: int) -> csr_array:
    """How many objects of each class every group has, (G, K)."""
    groups = np.repeat(place, [len(own) for own in classes])
    kinds, labels = np.unique(np.array([one for own in classes for one in own], dtype=np.int64), return_inverse=True)
    return csr_array((np.ones(len(groups), np.int64), (groups, labels)), shape=(num_groups, max(1, len(kinds))))


def _subsets(number: int) -> Choices:
    codes = np.arange(1, (1 << number) - 1)
    return (codes[:, None] >> np.arange(number) & 1).astype(np.bool_)


def _drawn(sizes: Counts, held: csr_array, share: float, seed: int) -> Choices:
    """Choices that take groups in a random order, as long as they fit and leave every class a group to train on."""
    rng = np.random.default_rng(seed)
    tries = max(1, min(_TRIES, _TRIES * _MOST_GROUPS // len(sizes)))
    own = [held.indices[a:b].tolist() for a, b in pairwise(held.indptr.tolist())]
    return np.array([_filled(rng.permutation(len(sizes)), sizes, own, share * sizes.sum()) for _ in range(tries)])


def _filled(order: Counts, sizes: Counts, own: Sequence[Sequence[int]], wanted: float) -> NDArray[np.bool_]:
    """One choice (G,); `own` are the classes of each group."""
    left = Counter(class_ for classes in own for class_ in classes)  # groups that have a class and stay in training
    chosen, number = np.zeros(len(sizes), dtype=np.bool_), 0
    spare: list[int] = []
    for i in order.tolist():
        if any(left[class_] < 2 for class_ in own[i]):
            continue
        if number + sizes[i] > wanted:
            spare.append(i)
            continue
        chosen[i], number = True, number + int(sizes[i])
        left.subtract(own[i])
    spare = [i for i in spare if all(left[class_] > 1 for class_ in own[i])]
    nearest = min(spare, key=lambda i: abs(number + sizes[i] - wanted), default=None)
    if nearest is not None and (number == 0 or abs(number + sizes[nearest] - wanted) < abs(number - wanted)):
        chosen[nearest] = True
    if not chosen.any():  # every group has what no other one has
        chosen[order[np.argmin(np.abs(sizes[order] - wanted))]] = True
    if chosen.all():  # nothing has a class, and nearly all is wanted
        chosen[order[np.argmin(sizes[order])]] = False
    return chosen


def _best(choices: Choices, sizes: Counts, held: csr_array, share: float) -> int:
    """The place of the best of C choices (C, G); of equals the first."""
    of_all, of_val = held.sum(axis=0), np.asarray(choices.astype(np.int64) @ held)  # (K,), (C, K)
    untrained = ((of_val == of_all) & (of_all > 0)).sum(axis=1)
    distance = np.abs(choices @ sizes - share * sizes.sum())
    unseen = ((of_val == 0) & (of_all > 0)).sum(axis=1)
    apart = np.abs(of_val / np.maximum(of_all, 1) - share).sum(axis=1)
    return int(np.lexsort((apart, unseen, distance, untrained))[0])
