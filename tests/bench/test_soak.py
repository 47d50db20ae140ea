"""The soak runs every simulation, tells of failures with their seed, and goes on."""

from __future__ import annotations

import pytest

from atoll.sim.ring_sim import SimFailure
from bench import soak


def test_a_few_seeds_hold() -> None:
    said: list[str] = []
    assert soak.soak(500_000, 3, said.append) == []
    assert said == ["3 of 3 seeds, 0 failures"]


def test_a_failure_is_told_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []

    def simulate(seed: int) -> None:
        ran.append(seed)
        if seed == 8:
            raise SimFailure(seed, 3, "a slot leaked")

    monkeypatch.setattr(soak, "SIMULATIONS", (simulate,))
    said: list[str] = []
    assert [failure.seed for failure in soak.soak(7, 3, said.append)] == [8]
    assert ran == [7, 8, 9]
    assert said == [
        "simulate: seed 8, event 3: a slot leaked",
        "3 of 3 seeds, 1 failures",
    ]


@pytest.mark.parametrize(
    ("crashes", "faults", "mistakes", "equal", "code"),
    [(0, 0, 0, 1.0, 0), (1, 0, 0, 1.0, 1), (0, 2, 0, 1.0, 1), (0, 0, 3, 1.0, 1), (0, 0, 0, 0.9, 1)],
)
def test_any_part_that_breaks_is_told_by_the_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    crashes: int,
    faults: int,
    mistakes: int,
    equal: float,
    code: int,
) -> None:
    tried: list[int] = []

    def readers(inputs: int, _seed: int) -> dict[str, int]:
        tried.append(inputs)
        return {"fuzz_inputs": inputs, "fuzz_crashes": crashes}

    def api(cases: int, _seed: int) -> dict[str, int]:
        tried.append(cases)
        return {"api_cases": cases, "api_faults": faults, "logged_mistakes": mistakes}

    def rings(kills: int) -> dict[str, float]:
        tried.append(kills)
        return {"kills": kills, "streams": 8 * kills, "exact_equal": equal, "streams_ok": 1.0}

    monkeypatch.setattr("bench.failover.run", rings)
    monkeypatch.setattr("bench.fuzz.run", readers)
    monkeypatch.setattr("bench.api_fuzz.run", api)
    counts = ["--seeds", "0", "--inputs", "7", "--cases", "9", "--kills", "5"]
    monkeypatch.setattr("sys.argv", ["soak", *counts])
    assert soak.main() == code
    assert tried == [7, 9, 5]
