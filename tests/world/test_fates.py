from __future__ import annotations

import pytest

from atoll.ring.stage import Stage
from atoll.world.fates import SYSTEM_EVERY, kind_of, run_fate


def test_a_fate_is_had_again() -> None:
    for seed in (5, SYSTEM_EVERY):
        assert run_fate(seed) == run_fate(seed)
        assert run_fate(seed) != run_fate(seed + SYSTEM_EVERY)


def test_both_simulations_have_their_share() -> None:
    kinds = [kind_of(seed) for seed in range(10 * SYSTEM_EVERY)]
    assert kinds.count("system") == 10
    assert run_fate(0).kind == "system"
    assert run_fate(1).kind == "ring"


def test_what_befell_the_ring_is_counted() -> None:
    fates = [run_fate(seed) for seed in range(90) if kind_of(seed) == "ring"]
    faults = {fault for fate in fates for fault in fate.faults}
    assert {"crash", "hostile frame", "lost parcel", "engine failure"} <= faults


@pytest.mark.parametrize("seed", [1, 0])
def test_a_broken_machine_is_told_with_its_last_events(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Stage, _slot: object) -> None:
        raise AssertionError("a mistake")

    monkeypatch.setattr(Stage, "_batch_done", fails)
    fate = run_fate(seed)
    assert "a mistake" in fate.problem
    assert fate.trace
