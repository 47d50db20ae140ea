"""What a run says of a fleet."""

from __future__ import annotations

import pytest
from tests.sim.serving.paces import ring, server

from atoll.forecast.targets import Target
from atoll.sim.serving.outcome import outcome_of
from atoll.sim.serving.pools import Pool
from atoll.sim.serving.replica import Replica
from atoll.sim.serving.requests import Request
from atoll.sim.serving.run import ServingRun


def run_of(*requests: Request, spares: int = 0) -> ServingRun:
    run = ServingRun([Pool("one", [Replica(server())], 1, spares, watts=100.0)], requests)
    run.run()
    return run


def test_energy_cost_and_use_by_hand() -> None:
    # It works from 0 to 1.01 s, waits until 3, and works for 1.01 s again.
    run = run_of(Request(0.0, 100, 101), Request(3.0, 100, 101), spares=2)
    found = outcome_of(run, Target())
    assert found.seconds == pytest.approx(4.01, rel=1e-3)
    (part,) = found.parts
    assert part.busy == pytest.approx(2.02 / 4.01, rel=1e-3)
    assert part.up == 1.0
    joules = 2.02 * 1000 + 1.99 * 300 + 4.01 * 2 * 100
    assert part.watts == pytest.approx(joules / 4.01, rel=1e-3)
    assert found.joules_per_token == pytest.approx(joules / 202, rel=1e-3)
    assert found.usd_per_million_tokens == pytest.approx(4.01 / 3600 * 2 / 202 * 1e6, rel=1e-3)
    assert found.tokens_per_s == pytest.approx(202 / 4.01, rel=1e-3)
    assert (part.streams_peak, part.systems, part.machines) == (1, 1, 1)
    assert (found.requests, found.answered, found.answer_tokens) == (2, 2, 202)


def test_the_share_within_a_target() -> None:
    slow = Request(0.1, 3000, 2)
    run = run_of(Request(0.0, 100, 101), slow)
    assert outcome_of(run, Target()).within_target is None
    assert outcome_of(run, Target(ttft_s=0.2)).within_target == 0.5
    assert outcome_of(run, Target(ttft_s=1.0)).within_target == 1.0
    # The prompt holds the first one's tokens up: 0.3 s over a hundred of them.
    assert outcome_of(run, Target(tpot_s=0.0125)).within_target == 0.5


def test_what_is_not_known_is_not_said() -> None:
    pool = Pool("homes", [Replica(ring())], 4)
    run = ServingRun([pool], [Request(0.0, 100, 11)])
    run.run()
    found = outcome_of(run, Target())
    assert found.usd_per_million_tokens is None
    assert found.joules_per_token is not None


def test_nothing_answered() -> None:
    run = ServingRun([Pool("one", [Replica(server(room=1))], 1)], [Request(0.0, 5, 5)])
    run.run()
    found = outcome_of(run, Target(ttft_s=1.0))
    assert (found.answered, found.requests, found.within_target) == (0, 1, 0.0)
    assert found.first_token_s is None
    assert found.joules_per_token is None
