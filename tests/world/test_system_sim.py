"""A failing seed prints itself; `run_system_seed(seed)` replays it exactly."""

from __future__ import annotations

from collections import Counter

import pytest

from atoll.world.scenario import FAULTS
from atoll.world.system_sim import run_system_seed

SEEDS = 80
BLOCKS = 4


@pytest.mark.parametrize("block", range(BLOCKS))
def test_seeds(block: int) -> None:
    size = SEEDS // BLOCKS
    reports = [run_system_seed(seed) for seed in range(block * size, (block + 1) * size)]
    ends: Counter[str] = Counter()
    for report in reports:
        ends.update(report.ends)
    # A scenario that reaches nothing would prove nothing.
    assert ends["finished"] > 3 * len(reports)
    assert {"finished", "left"} <= set(ends)


def test_every_fault_befalls_somebody() -> None:
    missing = set(FAULTS)
    for seed in range(120):
        missing -= set(run_system_seed(seed).faults)
        if not missing:
            break
    assert not missing


def test_a_seed_replays_exactly() -> None:
    first = run_system_seed(7)
    run_system_seed(8)
    assert run_system_seed(7) == first
    assert run_system_seed(8).digest != first.digest


@pytest.mark.parametrize("seed", [10, 68, 83])
def test_a_ring_stands_while_conversations_rest_and_nobody_asks(seed: int) -> None:
    """What rested was taken to be stuck, and the ring given up after `stall_s`."""
    assert run_system_seed(seed).ends["finished"]
