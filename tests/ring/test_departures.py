from __future__ import annotations

from atoll.domain.generation import GenerateRequest
from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.ring.coordinator_config import CoordinatorConfig
from atoll.ring.coordinator_messages import Send
from atoll.ring.departures import Departures, Ready
from atoll.ring.session import Session

EPOCH = Epoch(1, 1)


def departures(lanes: int = 1, credits: int = 8) -> tuple[Departures, CoordinatorConfig]:
    config = CoordinatorConfig(8, 16, 8, 4, 3, lanes=lanes, credits=credits)
    return Departures(config), config


def step(config: CoordinatorConfig, session: int, keep: int = 2) -> Ready:
    request = GenerateRequest((1, 2), 9)
    return Ready(Session.begin(SessionId(session), Slot(session), request, config), keep, 1, b"row")


def names(d: Departures, decoding: int) -> list[tuple[int, int]]:
    sends = d.leave(EPOCH, decoding)
    return [(s.window.session, s.window.follow) for s in sends if isinstance(s, Send)]


def test_a_lane_is_free_when_all_of_its_flight_has_passed_the_ends() -> None:
    d, config = departures()
    for session in (1, 2):
        d.add(step(config, session))
    assert names(d, 2) == [(1, 1), (2, 0)]
    d.add(step(config, 3))
    assert names(d, 3) == []
    d.step_done(SessionId(1), 0)
    assert names(d, 3) == []
    d.step_done(SessionId(2), 0)
    assert names(d, 3) == [(3, 0)]


def test_lanes_share_the_sessions() -> None:
    d, config = departures(lanes=2)
    for session in range(5):
        d.add(step(config, session))
    assert names(d, 5) == [(0, 2), (1, 1), (2, 0), (3, 1), (4, 0)]
    assert d.lanes == 2


def test_prefill_needs_no_lane_and_decode_no_turn_of_its_own() -> None:
    d, config = departures()
    d.add(step(config, 1))
    assert names(d, 1) == [(1, 0)]
    d.add(step(config, 2))
    d.add(step(config, 3, keep=0))
    assert names(d, 2) == [(3, 0)]
    assert d.waiting == 1


def test_credits_bound_what_leaves_and_what_is_computed() -> None:
    d, config = departures(credits=2)
    for session in range(3):
        d.add(step(config, session, keep=0))
    assert d.room_for_chunks == -1
    assert names(d, 0) == [(0, 0), (1, 0)]
    assert (d.credits, d.waiting) == (0, 1)
    d.granted(1)
    assert names(d, 0) == [(2, 0)]


def test_a_dropped_session_leaves_no_trace() -> None:
    d, config = departures()
    d.add(step(config, 1))
    names(d, 1)
    d.add(step(config, 2))
    d.drop(SessionId(2))
    d.drop(SessionId(1))
    assert (d.waiting, d.lanes) == (0, 0)


def test_what_is_held_stays_and_lets_others_go_before_it() -> None:
    d, config = departures()
    slow = step(config, 1)
    slow.session.held = True
    d.add(slow)
    assert names(d, 1) == []
    d.add(step(config, 2))
    assert names(d, 1) == [(2, 0)]
    d.step_done(SessionId(2), 0)
    assert names(d, 1) == []
    slow.session.held = False
    assert names(d, 1) == [(1, 0)]


def test_a_prompt_that_enters_is_not_held() -> None:
    d, config = departures()
    entering = step(config, 1, keep=0)
    entering.session.held = True
    d.add(entering)
    assert names(d, 0) == [(1, 0)]
