"""Views of about equal cost by deployment, and what the groups are called."""

from tis_ray.planning.grouping import even_groups, named

SECONDS = {"600": 1.0, "800": 2.0, "1000": 3.0, "1200": 4.0}


def test_groups_are_about_even_and_keep_the_views_order() -> None:
    assert even_groups(SECONDS, 2) == (("600", "1200"), ("800", "1000"))
    assert even_groups(SECONDS, 1) == (("600", "800", "1000", "1200"),)
    assert even_groups(SECONDS, 9) == (("600",), ("800",), ("1000",), ("1200",))


def test_views_that_are_alone_need_no_name() -> None:
    assert named(even_groups(SECONDS, 4), {}) == {}
    assert named((("600", "800"), ("1000",), ("1200",)), {}) == {"part1": ["600", "800"]}


def test_one_group_is_all() -> None:
    assert named(even_groups(SECONDS, 1), {}) == {"all": ["600", "800", "1000", "1200"]}


def test_groups_that_were_there_keep_their_names_and_new_ones_take_others() -> None:
    written = {"part1": ["1000", "800"], "high": ["1200"]}
    groups = (("600", "x"), ("800", "1000"), ("1200",))
    assert named(groups, written) == {"part2": ["600", "x"], "part1": ["800", "1000"], "high": ["1200"]}
