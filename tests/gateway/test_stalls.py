"""What is stuck, and what is only slow."""

from __future__ import annotations

import asyncio

from atoll.domain.ids import SessionId
from atoll.gateway.stalls import BUSY_FACTOR, Stalls, wait_stalled

ONE, TWO = SessionId(1), SessionId(2)


def test_a_session_that_moves_is_not_stuck() -> None:
    stalls = Stalls(10.0)
    for step in range(100):
        assert not stalls.are_there({ONE: (step, 0, 0)}, (), now_s=9.0 * step)


def test_a_session_that_stands_still_is() -> None:
    stalls = Stalls(10.0)
    assert not stalls.are_there({ONE: (1, 0, 0)}, (), now_s=100.0)
    assert not stalls.are_there({ONE: (1, 0, 0), TWO: (1, 0, 0)}, (), now_s=109.0)
    assert stalls.are_there({ONE: (1, 0, 0), TWO: (2, 0, 0)}, (), now_s=111.0)
    # Gone and come again, its time begins anew.
    assert not stalls.are_there({TWO: (3, 0, 0)}, (), now_s=112.0)
    assert not stalls.are_there({ONE: (1, 0, 0), TWO: (4, 0, 0)}, (), now_s=113.0)


def test_while_stages_work_it_may_wait_longer_but_not_for_ever() -> None:
    stalls = Stalls(10.0)
    mark = {ONE: (1, 0, 0)}
    times = range(0, 10 * BUSY_FACTOR, 5)
    assert not any(stalls.are_there(mark, (t, 2 * t), now_s=float(t)) for t in times)
    assert stalls.are_there(mark, (999, 0), now_s=10.0 * BUSY_FACTOR + 1)


def test_work_that_stops_counts_no_more() -> None:
    stalls = Stalls(10.0)
    mark = {ONE: (1, 0, 0)}
    assert not stalls.are_there(mark, (1,), now_s=0.0)
    assert not stalls.are_there(mark, (2,), now_s=20.0)
    assert not stalls.are_there(mark, (2,), now_s=29.0)
    assert stalls.are_there(mark, (2,), now_s=31.0)


async def test_it_returns_when_a_session_is_stuck() -> None:
    looks = 0

    def marks() -> dict[SessionId, tuple[int, int, int]]:
        nonlocal looks
        looks += 1
        return {SessionId(1): (min(looks, 3), 0, 0)}

    await asyncio.wait_for(wait_stalled(0.04, marks, lambda: (1,)), 5)
    assert looks > 4
