"""`atoll simulate` as its user sees it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from tests.cli.conftest import Run

from atoll.cli import simulate
from atoll.world.campaign import Tally
from atoll.world.fates import Outcome
from atoll.world.worker import Batch

BROKEN = Outcome(
    11, "system", 99, {"crash": 1}, "a token is wrong", ("1.0 s  first", "2.0 s  last")
)


def test_seeds_are_run_and_counted(run: Run) -> None:
    shown = run(
        "simulate", "faults", "--seeds", "7", "--first-seed", "6", "--workers", "2", "--json"
    )
    assert shown.code == 0
    reply = json.loads(shown.out)
    assert (reply["seeds"], reply["broken"], reply["broken_seeds"]) == (7, 0, [])
    assert reply["kinds"] == {"ring": 6, "system": 1}
    assert reply["seeds_per_minute"] > 0
    assert "7 of 7 seeds, 0 broken" in shown.err


def test_the_table(run_plainly: Run) -> None:
    shown = run_plainly("simulate", "faults", "--seed", "1")
    assert shown.code == 0
    assert "seeds per minute" in shown.out
    assert "of the ring" in shown.out


@pytest.mark.parametrize("alone", [True, False])
def test_a_broken_seed_is_shown_with_how_to_have_it_again(
    alone: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def campaign(
        first: int, count: int, *, workers: int, heard: Callable[[Tally, Batch], None]
    ) -> Tally:
        assert (first, count, workers) == ((11, 1, 3) if alone else (0, 20, 3))
        batch, tally = Batch(), Tally()
        batch.add(BROKEN)
        tally.add(batch)
        heard(tally, batch)
        return tally

    monkeypatch.setattr(simulate, "run_campaign", campaign)
    options = simulate.SimulateFlags(workers=3, seeds=20, seed=11 if alone else None)
    assert simulate.faults_simulate(options=options) == 1
    said = capsys.readouterr().err
    assert "seed 11 (system): a token is wrong" in said
    assert "atoll simulate faults --seed 11" in said
    assert ("2.0 s  last" in said) == alone
