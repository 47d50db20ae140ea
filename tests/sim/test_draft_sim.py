from __future__ import annotations

import pytest

from atoll.sim.draft_sim import run_draft_seed


@pytest.mark.parametrize("block", range(4))
def test_seeds(block: int) -> None:
    reports = [run_draft_seed(seed) for seed in range(block * 100, (block + 1) * 100)]
    assert sum(report.rollbacks for report in reports) > len(reports)
    assert sum(report.rows_checked for report in reports) > 10 * len(reports)
