from __future__ import annotations

from atoll.world.fates import run_fate


def test_a_fate_is_had_again() -> None:
    assert run_fate(5) == run_fate(5)
    assert run_fate(5) != run_fate(6)


def test_what_befell_the_ring_is_counted() -> None:
    faults = {fault for seed in range(60) for fault in run_fate(seed).faults}
    assert {"crash", "hostile frame", "lost parcel", "engine failure"} <= faults
