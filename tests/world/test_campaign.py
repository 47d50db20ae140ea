"""A campaign over real processes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from atoll.domain.errors import AtollError
from atoll.world.campaign import Tally, run_campaign
from atoll.world.fates import Outcome
from atoll.world.worker import Batch


async def test_seeds_are_shared_out_and_summed() -> None:
    heard: list[int] = []
    tally = await run_campaign(
        20, 13, workers=2, heard=lambda tally, _batch: heard.append(tally.seeds)
    )
    assert (tally.seeds, heard[-1], len(tally.broken)) == (13, 13, 0)
    assert tally.kinds == {"ring": 12, "system": 1}
    assert tally.events > 13
    assert tally.seeds_per_minute > 0


async def test_a_process_that_ends_too_soon_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What it needs is not there.
    (tmp_path / "atoll").mkdir()
    (tmp_path / "atoll" / "__init__.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    async with asyncio.timeout(60):
        with pytest.raises(AtollError, match="exit code 1, 0 of 3 seeds on"):
            await run_campaign(0, 3, workers=1, heard=lambda _tally, _batch: None)


def test_broken_seeds_are_kept() -> None:
    batch, tally = Batch(), Tally()
    batch.add(Outcome(4, "ring", 10, {"crash": 2}))
    batch.add(Outcome(5, "ring", 3, {"crash": 1}, "a slot leaks"))
    tally.add(batch)
    tally.add(Batch(1, 1, 0.5, {"system": 1}))
    assert (tally.seeds, tally.events, tally.cpu_s) == (3, 14, 0.5)
    assert tally.faults == {"crash": 3}
    assert [outcome.seed for outcome in tally.broken] == [5]
    assert tally.seeds_per_minute == 360
