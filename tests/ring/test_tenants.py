"""Slots: free ones, taken ones, and those whose caches may serve again."""

from __future__ import annotations

import dataclasses
from typing import Any

from tests.ring.test_coordinator import EPOCH, back, ends, released, request, sent, submit

from atoll.domain.generation import GenerateRequest, Sampled
from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.domain.wire import Window
from atoll.ring.coordinator import Coordinator
from atoll.ring.coordinator_config import CoordinatorConfig
from atoll.ring.coordinator_messages import (
    Admitted,
    CancelSession,
    CloseEnds,
    CoordinatorEffect,
    Emit,
    Forget,
    HeadDone,
    OpenEnds,
    RingDown,
    RingUp,
    SendRelease,
    SessionRefused,
    TailDone,
)

CONFIG = CoordinatorConfig(
    n_slots=2, context=64, rows_max=16, chunk_rows=16, exact_chunk_rows=8, reuse=True, reuse_min=3
)


def up(**changes: Any) -> Coordinator:
    c = Coordinator(dataclasses.replace(CONFIG, **changes))
    c.handle(RingUp(EPOCH))
    return c


def asks(*tokens: int, group: str = "", exact: bool = False) -> GenerateRequest:
    return GenerateRequest(tokens, 1, group=group, exact=exact)


def answered(c: Coordinator, session: int, ask: GenerateRequest, token: int = 50) -> Window:
    """Let a session sample its one token; returns its only window."""
    submit(c, session, ask)
    (window,) = sent(ends(c, HeadDone(b"h")))
    back(c, window)
    ends(c, TailDone(Sampled(token, b"", "length")))
    return window


def admitted(effects: list[CoordinatorEffect]) -> Admitted:
    (found,) = [effect for effect in effects if isinstance(effect, Admitted)]
    return found


def test_a_session_that_ended_well_rests_and_its_caches_stay() -> None:
    c = up()
    submit(c, 1, asks(1, 2, 3))
    (window,) = sent(ends(c, HeadDone(b"h")))
    back(c, window)
    effects = ends(c, TailDone(Sampled(50, b"", "length")))
    assert CloseEnds(SessionId(1), Slot(0), keep=True) in effects
    assert not [effect for effect in effects if isinstance(effect, SendRelease)]
    assert (c.active, c.resting) == (0, 1)


def test_who_rests_is_not_stuck() -> None:
    c = up()
    submit(c, 1, asks(1, 2, 3))
    assert SessionId(1) in c.marks()
    (window,) = sent(ends(c, HeadDone(b"h")))
    back(c, window)
    ends(c, TailDone(Sampled(50, b"", "length")))
    assert c.marks() == {}


def test_who_begins_alike_computes_only_what_is_new() -> None:
    c = up()
    answered(c, 1, asks(1, 2, 3, 4))
    # The token that was sampled last was not computed.
    effects = submit(c, 2, asks(1, 2, 3, 4, 50, 6))
    assert admitted(effects) == Admitted(SessionId(2), 4, SessionId(1))
    assert OpenEnds(SessionId(1), Slot(0), asks(1, 2, 3, 4, 50, 6)) in effects
    (window,) = sent(ends(c, HeadDone(b"h")))
    assert (window.session, window.seq, window.keep, window.rows) == (1, 1, 4, 2)
    back(c, window)
    effects = ends(c, TailDone(Sampled(7, b"", "length")))
    assert [effect.session for effect in effects if isinstance(effect, Emit)] == [2]


def test_what_would_be_reused_can_be_asked() -> None:
    c = up()
    assert c.shared_with(asks(1, 2, 3, 4, 50)) == 0
    answered(c, 1, asks(1, 2, 3, 4))
    assert c.shared_with(asks(1, 2, 3, 4, 50)) == 4
    assert c.shared_with(asks(1, 2, 9, 9, 9)) == 0, "too little to be worth a slot"


def test_the_last_token_of_a_prompt_is_computed_anew() -> None:
    c = up()
    answered(c, 1, asks(1, 2, 3, 4))
    assert admitted(submit(c, 2, asks(1, 2, 3, 4))).cached == 3


def test_groups_and_modes_share_nothing() -> None:
    for ask in (asks(1, 2, 3, 4, 9, group="b"), asks(1, 2, 3, 4, 9, exact=True)):
        c = up()
        answered(c, 1, asks(1, 2, 3, 4, group="a"))
        assert admitted(submit(c, 2, ask)).cached == 0


def test_the_longest_beginning_is_taken() -> None:
    c = up()
    answered(c, 1, asks(1, 2, 3, 4, 5))
    answered(c, 2, asks(1, 2, 8, 9, 10))
    assert c.resting == 2
    found = admitted(submit(c, 3, asks(1, 2, 8, 9, 11, 12)))
    assert (found.cached, found.tenant) == (4, 2)


def test_a_free_slot_first_then_the_one_that_rests_longest() -> None:
    c = up()
    answered(c, 1, asks(1, 2, 3, 4))
    assert admitted(submit(c, 2, asks(20, 21, 22))).tenant is None
    (window,) = sent(ends(c, HeadDone(b"h")))
    back(c, window)
    ends(c, TailDone(Sampled(50, b"", "length")))
    found = admitted(submit(c, 3, asks(30, 31, 32)))
    assert (found.cached, found.tenant) == (0, 1)
    (window,) = sent(ends(c, HeadDone(b"h")))
    assert (window.slot, window.keep) == (0, 0)


def test_who_leaves_an_answer_may_go_on() -> None:
    c = up()
    submit(c, 1, GenerateRequest((1, 2, 3, 4), 9))
    (window,) = sent(ends(c, HeadDone(b"h")))
    back(c, window)
    (step,) = sent(ends(c, TailDone(Sampled(50, b"w"), b"n")))
    c.handle(CancelSession(SessionId(1), "left"))
    assert c.resting == 1
    # What was on its way comes back, and is nobody's.
    assert not [e for e in back(c, step) if isinstance(e, Emit)]
    assert admitted(submit(c, 2, asks(1, 2, 3, 4, 50, 6))).cached == 4


def test_a_session_that_a_stage_refused_serves_nobody_again() -> None:
    c = up()
    answered(c, 1, asks(1, 2, 3, 4))
    effects = c.handle(SessionRefused(SessionId(1), 1, "gap", "no"))
    assert SendRelease(SessionId(1), Slot(0)) in effects
    assert admitted(submit(c, 2, asks(1, 2, 3, 4, 50, 6))).tenant is None
    released(c, 1, 0)
    assert c.holders() == {1: 2}


def test_what_rests_can_be_forgotten() -> None:
    c = up()
    answered(c, 1, asks(1, 2, 3, 4))
    effects = c.handle(Forget())
    assert effects == [SendRelease(SessionId(1), Slot(0)), CloseEnds(SessionId(1), Slot(0))]
    released(c, 1, 0)
    assert (c.resting, c.holders()) == (0, {})


def test_a_new_ring_remembers_nothing() -> None:
    c = up()
    answered(c, 1, asks(1, 2, 3, 4))
    assert CloseEnds(SessionId(1), Slot(0)) in c.handle(RingDown("gone"))
    c.handle(RingUp(Epoch(EPOCH.incarnation, 99)))
    assert admitted(submit(c, 2, asks(1, 2, 3, 4, 50))).tenant is None


def test_without_reuse_slots_are_cleared() -> None:
    c = up(reuse=False)
    answered(c, 1, request())
    assert c.resting == 0
