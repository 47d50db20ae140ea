"""What is worth parking, what a request shares with it, and which parcels go first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atoll.domain.generation import GenerateRequest
from atoll.domain.ids import SessionId
from atoll.ring.parking import (
    Coming,
    Parked,
    Parking,
    ParkingLot,
    ParkingRates,
    is_moving_cheaper,
    shared_tokens,
)

RATES = ParkingRates(bytes_per_token=1000, tier_bytes_s=1e6, prefill_tokens_s=100, lap_s=0.1)
PARKING = Parking(RATES, held_max=100, tokens_max=60)


@pytest.mark.parametrize(
    ("moved", "saved", "cheaper"),
    # Moving takes 2 ms a token and 0.2 s, computing 10 ms a token.
    [(20, 20, False), (25, 25, False), (26, 26, True), (1000, 200, False), (1000, 221, True)],
)
def test_moving_against_computing(moved: int, saved: int, cheaper: bool) -> None:
    assert is_moving_cheaper(moved, saved, RATES) is cheaper


def test_shared_beginnings_leave_the_last_token_to_compute() -> None:
    assert shared_tokens([1, 2, 3], [1, 2, 3, 4]) == 3
    assert shared_tokens([1, 2, 3], [1, 2, 3]) == 2
    assert shared_tokens([1, 2, 3], [1, 9, 3, 4]) == 1
    assert shared_tokens([], [1]) == shared_tokens([1], []) == 0


def lot(parking: Parking | None = PARKING) -> ParkingLot:
    return ParkingLot(parking, shared_min=3)


def ask(*tokens: int, group: str = "a", exact: bool = False) -> GenerateRequest:
    return GenerateRequest(tokens, 1, group=group, exact=exact)


def test_what_is_worth_parking() -> None:
    assert [lot().is_worth(n) for n in (2, 25, 26, 60, 61)] == [False, False, True, True, False]
    assert not lot(replace(PARKING, held_max=30)).is_worth(31)
    assert not lot(None).is_worth(50)
    measured = lot()
    measured.tick(replace(RATES, prefill_tokens_s=1e6))
    assert not measured.is_worth(50)
    measured.tick(None)
    assert not measured.is_worth(50)


def test_the_parcel_that_saves_most_of_the_same_group_and_mode() -> None:
    found = lot()
    tokens = list(range(50))
    found.add(SessionId(1), ask(group="a"), tokens[:40])
    found.add(SessionId(2), ask(group="a"), tokens)
    found.add(SessionId(3), ask(group="b"), tokens)
    shared, parked = found.best(ask(*tokens, 7))
    assert (shared, parked and parked.parcel) == (50, 2)
    assert found.best(ask(*tokens, 7, group="c")) == (0, None)
    assert found.best(ask(*tokens, 7, exact=True)) == (0, None)
    # Too little of it is shared for what would be moved.
    assert found.best(ask(*tokens[:20], 99, 99)) == (0, None)


def test_the_least_valuable_goes_first() -> None:
    found = lot()
    found.add(SessionId(1), ask(), range(60))
    found.tick(None)
    found.tick(None)
    found.add(SessionId(2), ask(), range(25))
    assert found.crowd_out() == []
    found.add(SessionId(3), ask(), range(30))
    # 60 / 3 against 25 and 30.
    assert found.crowd_out() == [1]
    assert (found.parked, found.parked_tokens) == (2, 55)
    assert found.clear() == [2, 3]
    assert found.parked == 0


def test_a_parcel_is_removed_once() -> None:
    found = lot()
    found.add(SessionId(1), ask(), range(30))
    _, parked = found.best(ask(*range(31)))
    assert parked is not None
    assert [found.remove(parked), found.remove(parked)] == [True, False]


def test_a_parcel_that_is_coming() -> None:
    parked = Parked(SessionId(1), "", False, tuple(range(30)), 0)
    coming = Coming(parked, 20)
    assert not coming.is_over
    coming.at_ends = True
    assert not coming.is_over
    coming.in_ring = True
    assert (coming.is_over, coming.is_here, coming.is_used_up) == (True, True, True)
    # A system prompt that many share does not use up the conversation that has it too.
    assert not Coming(parked, 14, at_ends=True, in_ring=True).is_used_up
    for lost in (Coming(parked, 14, True, False), Coming(parked, 14, False, True)):
        assert (lost.is_over, lost.is_here, lost.is_used_up) == (True, False, True)
