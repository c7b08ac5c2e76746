"""Which views of a member share a deployment, and so a model: the ways worth comparing.

All in one deployment balance perfectly over any number of GPUs and hold the weights once, but a lone picture waits for
one view after another. One deployment for each scale answers a lone picture soonest where there are GPUs for all, and
leaves GPUs idle where the scales' costs differ more than replicas can even out. In between lie groups of about equal
cost, each view with the group that has least work so far, the costly ones first.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count

Groups = tuple[tuple[str, ...], ...]  # of one member: view names by deployment
Grouping = dict[str, Groups]  # of all members

ALL = "all"


def even_groups(seconds: Mapping[str, float], number: int) -> Groups:
    """So many groups of about equal seconds, at most one for each view; names within a group in the order given."""
    groups: list[list[str]] = [[] for _ in range(min(number, len(seconds)))]
    sums = [0.0] * len(groups)
    for key in sorted(seconds, key=lambda key: -seconds[key]):
        idlest = sums.index(min(sums))
        groups[idlest].append(key)
        sums[idlest] += seconds[key]
    order = {key: place for place, key in enumerate(seconds)}
    return tuple(sorted((tuple(sorted(group, key=order.__getitem__)) for group in groups), key=lambda g: order[g[0]]))


def named(groups: Groups, written: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The `groups` section of a member, whose file has the `written` one: groups that were there keep their names.

    New are `all`, where there is one group, or `part1`, `part2`, ...; a view that is alone needs none.
    """
    kept = {tuple(sorted(views)): name for name, views in written.items()}
    known = {group: kept[tuple(sorted(group))] for group in groups if tuple(sorted(group)) in kept}
    new = (name for name in ([ALL] if len(groups) == 1 else _parts()) if name not in known.values())
    names = {group: known.get(group) or next(new) for group in groups if group in known or len(group) > 1}
    return {name: list(group) for group, name in names.items()}


def _parts() -> Iterator[str]:
    return (f"part{number}" for number in count(1))
