"""Who waits goes by priority, key by key, and nobody for ever."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atoll.domain.generation import GenerateRequest
from atoll.domain.ids import SessionId
from atoll.ring.coordinator_messages import Submit
from atoll.ring.line import LANES_REMEMBERED_MAX, PATIENCE, Line

LOW, NORMAL, HIGH = -1, 0, 1


def submit(number: int, group: str = "a", priority: int = NORMAL) -> Submit:
    return Submit(SessionId(number), GenerateRequest((1,), 1, group=group, priority=priority))


def line_of(*submits: Submit) -> Line:
    line = Line()
    for one in submits:
        line.append(one)
    return line


def served(line: Line) -> list[int]:
    order = []
    while line:
        assert line.head() is line.head()
        head = line.head()
        assert line.popleft() is head
        order.append(int(head.session))
    return order


def test_one_key_is_served_in_the_order_of_its_requests() -> None:
    assert served(line_of(*(submit(n) for n in range(5)))) == [0, 1, 2, 3, 4]


def test_a_key_with_a_hundred_requests_does_not_hold_up_another() -> None:
    line = line_of(*(submit(n) for n in range(100)))
    assert line.popleft().session == 0
    line.append(submit(1000, "b"))
    assert line.ahead("c", NORMAL) == 2
    assert served(line)[0] == 1000


def test_keys_of_a_priority_take_turns() -> None:
    line = line_of(*(submit(n, "abc"[n // 3]) for n in range(9)))
    assert served(line) == [0, 3, 6, 1, 4, 7, 2, 5, 8]


def test_a_key_that_comes_back_is_not_first_again() -> None:
    line = line_of(submit(0, "a"), submit(1, "b"))
    assert line.popleft().session == 0
    line.append(submit(2, "a"))
    assert served(line) == [1, 2]


def test_a_higher_priority_goes_first() -> None:
    line = line_of(submit(0, "a", LOW), submit(1, "b"), submit(2, "c", HIGH), submit(3, "d", HIGH))
    assert served(line) == [2, 3, 1, 0]


def test_a_low_priority_is_passed_over_so_often_and_not_more() -> None:
    line = line_of(submit(0, "low", LOW))
    passed = 0
    for number in range(1, 100):
        line.append(submit(number, "high", HIGH))
        if line.popleft().session == 0:
            break
        passed += 1
    # At two priorities more it is level with the other, and was served longer ago.
    assert passed == 2 * PATIENCE


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from((LOW, NORMAL, HIGH))),
        min_size=1,
        max_size=60,
    )
)
def test_all_come_to_their_turn_and_nobody_waits_for_ever(lanes: list[tuple[str, int]]) -> None:
    line = line_of(*(submit(n, *lane) for n, lane in enumerate(lanes)))
    heads = {lane: lanes.index(lane) for lane in lanes}
    longest = (3 + len(heads)) * PATIENCE + len(heads)
    waited = dict.fromkeys(heads.values(), 0)
    number = len(lanes)
    while waited:
        # Whoever is served comes back at once: the line never gets shorter.
        one = line.popleft()
        waited.pop(int(one.session), None)
        line.append(submit(number, one.request.group, one.request.priority))
        number += 1
        waited = {session: turns + 1 for session, turns in waited.items()}
        assert all(turns <= longest for turns in waited.values())
    assert len(line) == len(lanes)


def test_who_was_admitted_before_goes_before_all() -> None:
    line = line_of(submit(0, "a", HIGH))
    line.appendleft(submit(1, "b", LOW))
    assert line.ahead("c", HIGH) == 2
    assert served(line) == [1, 0]


def test_who_leaves_is_no_longer_in_it() -> None:
    first, second, again = submit(0), submit(1), submit(2)
    line = line_of(first, second)
    line.appendleft(again)
    assert list(line) == [again, first, second]
    line.remove(first)
    line.remove(again)
    with pytest.raises(ValueError, match="not in deque"):
        line.remove(first)
    assert served(line) == [1]
    with pytest.raises(IndexError):
        line.head()
    line.append(first)
    line.clear()
    assert len(line) == 0


def test_how_many_go_before_a_newcomer() -> None:
    line = line_of(*(submit(n) for n in range(4)), submit(4, "b", HIGH), submit(5, "c", LOW))
    assert line.ahead("a", NORMAL) == 5
    assert line.ahead("new", NORMAL) == 2
    assert line.ahead("new", HIGH) == 1
    assert line.ahead("c", LOW) == 6


def test_in_a_full_line_the_longest_lane_of_the_lowest_priority_gives_way() -> None:
    line = line_of(*(submit(n) for n in range(3)), submit(3, "b"))
    assert line.yields("a", NORMAL) is None
    newest = line.yields("b", NORMAL)
    assert newest is not None
    assert newest.session == 2
    line.remove(newest)
    # Two and one: to take one away would only turn it round.
    assert line.yields("b", NORMAL) is None
    assert line.yields("low", LOW) is None
    high = line.yields("high", HIGH)
    assert high is not None
    assert high.session == 1
    line.append(submit(9, "low", LOW))
    for_normal = line.yields("a", NORMAL)
    assert for_normal is not None
    assert for_normal.session == 9
    assert Line().yields("a", HIGH) is None


def test_what_is_remembered_of_keys_is_bounded() -> None:
    line = Line()
    for number in range(LANES_REMEMBERED_MAX + 10):
        line.append(submit(number, f"key-{number}"))
        line.popleft()
    assert len(line._served) == LANES_REMEMBERED_MAX
