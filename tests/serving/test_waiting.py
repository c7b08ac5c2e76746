"""The line in front of a model, against a plain list that is searched anew each time."""

import random

import pytest

from tis_ray.serving.messages import DeadlineError
from tis_ray.serving.waiting import Line, Turn


class Told(Line):
    """A line and the lengths that it has told."""

    def __init__(self) -> None:
        self.lengths: list[int] = []
        super().__init__(self.lengths.append)


def turn(work, *, kind=None, ahead=False, deadline_s=60.0) -> Turn:
    return Turn(work, deadline_s=deadline_s, kind=kind, ahead=ahead)


def joined(*turns: Turn) -> Told:
    line = Told()
    for one in turns:
        line.join(one)
    return line


def works(turns: list[Turn]) -> list:
    return [one.work for one in turns]


def several(_: Turn) -> int:
    return 3


def test_nobody_is_next_where_nobody_waits():
    line = Told()
    assert line.take(several) == []
    assert len(line) == 0


def test_the_oldest_is_next_with_as_many_of_its_kind_as_there_is_room_for():
    line = joined(*(turn(f"{kind}{n}", kind=kind) for n in range(4) for kind in "ab"))
    assert works(line.take(several)) == ["a0", "a1", "a2"]
    assert works(line.take(several)) == ["b0", "b1", "b2"]
    assert works(line.take(several)) == ["a3"]
    assert works(line.take(several)) == ["b3"]
    assert line.lengths == [1, 2, 3, 4, 5, 6, 7, 8, 5, 2, 1, 0]


def test_whoever_is_of_no_kind_is_alone():
    line = joined(turn(1), turn(2))
    assert works(line.take(several)) == [1]


def test_there_is_room_for_one_at_least():
    assert works(joined(turn(1, kind="a"), turn(2, kind="a")).take(lambda _: 0)) == [1]


def test_second_passes_go_first_and_take_no_first_pass_along():
    line = joined(turn("first", kind="a"), turn("second", kind="a", ahead=True), turn("third", kind="a", ahead=True))
    assert works(line.take(several)) == ["second", "third"]
    assert works(line.take(several)) == ["first"]


def test_no_kind_is_passed_over_however_many_of_another_come():
    line = joined(turn("b", kind="b"))
    taken = []
    for n in range(5):
        line.join(turn(f"a{n}", kind="a"))
        line.join(turn(f"a{n}'", kind="a"))
        taken += works(line.take(lambda _: 2))
    assert taken[0] == "b"


def test_who_is_late_gets_an_error_and_no_turn():
    late, other = turn("late", kind="a", deadline_s=0), turn("other", kind="a")
    line = joined(other, late)
    assert works(line.take(several)) == ["other"]
    with pytest.raises(DeadlineError):
        late.answer.result(timeout=0)
    assert not late.wanted()
    assert other.wanted()


def test_who_leaves_is_neither_taken_nor_counted():
    gone = turn("gone", kind="a")
    line = joined(gone, turn("other", kind="a"))
    line.leave(gone)
    assert line.lengths[-1] == len(line) == 1
    assert works(line.take(several)) == ["other"]


def test_who_leaves_after_its_turn_has_come_is_not_wanted_any_more():
    one = turn("one")
    line = joined(one)
    assert line.take(several) == [one]
    assert one.wanted()
    line.leave(one)
    assert not one.wanted()
    assert line.lengths == [1, 0]


def test_whose_answer_was_cancelled_gets_no_turn():
    one = turn("one")
    line = joined(one, turn("two"))
    one.answer.cancel()
    assert line.take(several) == []
    assert works(line.take(several)) == ["two"]


def test_takes_what_a_plain_search_takes():
    rng = random.Random(0)
    for _ in range(50):
        turns = [turn(n, kind=rng.choice("ab"), ahead=rng.random() < 0.3) for n in range(12)]
        line, left = joined(*turns), list(turns)
        while left:
            room = rng.randint(1, 4)
            first = ([one for one in left if one.ahead] or left)[0]
            expected = [one for one in left if (one.kind, one.ahead) == (first.kind, first.ahead)][:room]
            assert line.take(lambda _, room=room: room) == expected
            left = [one for one in left if one not in expected]
        assert len(line) == 0
