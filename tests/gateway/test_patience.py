"""How often, and how soon, a ring that broke is tried again."""

from __future__ import annotations

import math

from atoll.gateway.patience import AGAIN_S, ATTEMPTS_MAX, STEADY_S, Patience


def test_pauses_grow_until_patience_is_lost() -> None:
    patience = Patience()
    assert not patience.pauses(0.0)
    pauses = [patience.note(0.0, now_s=100.0, changes=7) - 100.0 for _ in range(ATTEMPTS_MAX)]
    assert pauses[:-1] == [AGAIN_S * 2**n for n in range(ATTEMPTS_MAX - 1)]
    assert pauses[-1] == math.inf
    assert patience.is_lost(7)


def test_a_change_of_the_fleet_restores_it() -> None:
    patience = Patience()
    for _ in range(ATTEMPTS_MAX):
        patience.note(0.0, now_s=0.0, changes=7)
    assert not patience.is_lost(8)
    assert patience.note(0.0, now_s=0.0, changes=8) == AGAIN_S


def test_a_ring_that_served_was_no_failed_attempt() -> None:
    patience = Patience()
    patience.note(0.0, now_s=0.0, changes=1)
    patience.note(0.0, now_s=0.0, changes=1)
    assert patience.note(STEADY_S, now_s=50.0, changes=1) == 50.0
    assert not patience.pauses(50.0)
    assert patience.note(0.0, now_s=50.0, changes=1) == 50.0 + AGAIN_S
    assert patience.pauses(50.0 + AGAIN_S / 2)
    assert not patience.pauses(50.0 + AGAIN_S)
