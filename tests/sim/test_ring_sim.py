"""A failing seed prints itself; `run_seed(seed)` replays it exactly."""

from __future__ import annotations

from collections import Counter

import pytest

from atoll.sim.ring_sim import Report, run_seed

SEEDS = 300
BLOCKS = 2


@pytest.mark.parametrize("block", range(BLOCKS))
def test_seeds(block: int) -> None:
    size = SEEDS // BLOCKS
    reports = [run_seed(seed) for seed in range(block * size, (block + 1) * size)]
    ends: Counter[str] = Counter()
    for report in reports:
        ends.update(report.ends)
    # A scenario that reaches nothing would prove nothing.
    assert {"finished", "cancelled", "ring_down", "overloaded"} <= set(ends)
    assert ends["finished"] > len(reports)
    assert any(report.largest_batch > 1 for report in reports)
    assert any(report.epochs > 1 for report in reports)
    assert sum(report.parked for report in reports) > len(reports) / 8
    assert any(report.resumed for report in reports)
    refused: Counter[str] = Counter()
    for report in reports:
        refused.update(report.refusals)
    assert {"seq", "epoch", "slot"} <= set(refused)


def test_a_seed_replays_exactly() -> None:
    first: Report = run_seed(7)
    assert run_seed(7) == first
    assert run_seed(8) != first
