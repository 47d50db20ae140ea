from __future__ import annotations

from atoll.ring.messages import credits_for


def test_a_flight_of_all_slots_fits_the_credits() -> None:
    assert all(credits_for(n_slots) > n_slots for n_slots in (1, 8, 256))
