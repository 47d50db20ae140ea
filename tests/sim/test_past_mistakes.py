"""Fates in which mistakes were found: none of them is made again.

What a number stands for changes with what the simulation draws by chance. So a mistake that
can be put back is, and has to be noticed under its number.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from atoll.ring.comeback import Comeback
from atoll.ring.coordinator_messages import CoordinatorEffect, HeadItem
from atoll.ring.parked import ParkedSessions
from atoll.ring.session import Session
from atoll.sim.ring_sim import SimFailure, run_seed

FOUND = {
    1000226: "a discard on its way when the ring lost a part was never told again",
    1001859: "a stage forgot the release of a session that could not rejoin",
    1002283: "as the first",
    1004150: "a session waited for a parcel whose message went with the ring",
    1013305: "likewise, with two parts lost",
    1017224: "not the product's: a replay was taken for a frame that is to be refused",
    1027527: "likewise",
    2062638: "a stage computed what waited of a session that it had forgotten",
    2085417: "likewise",
}


@pytest.mark.parametrize("seed", FOUND)
def test_it_holds_now(seed: int) -> None:
    run_seed(seed)


def is_noticed(seeds: Sequence[int]) -> bool:
    for seed in seeds:
        try:
            run_seed(seed)
        except SimFailure:
            return True
    return False


def test_guesses_of_a_session_that_rejoins(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Session.next_guesses

    def next_guesses(self: Session) -> list[HeadItem]:
        rejoining, self.rejoining = self.rejoining, False
        try:
            return honest(self)
        finally:
            self.rejoining = rejoining

    monkeypatch.setattr(Session, "next_guesses", next_guesses)
    assert is_noticed([272, 347, 378])


def test_discards_that_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ParkedSessions, "go_on", lambda _self: [])
    assert is_noticed([1000226, 1002283])


def test_parcels_whose_message_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_off(_self: ParkedSessions, session: Session) -> list[CoordinatorEffect]:
        if session.coming is not None:
            session.coming.in_ring = False
        return []

    monkeypatch.setattr(ParkedSessions, "cut_off", cut_off)
    assert is_noticed([1004150, 1013305])


def test_a_ring_that_goes_on_leaves_no_session_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Comeback, "_enter", lambda *_args, **_options: None)
    assert is_noticed(range(40))
