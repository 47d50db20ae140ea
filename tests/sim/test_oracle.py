"""The simulation's drafter."""

from __future__ import annotations

import random
from dataclasses import replace

from atoll.domain.generation import GenerateRequest
from atoll.sim.fake_model import expected_output
from atoll.sim.oracle import Oracle
from atoll.sim.scenario import make_scenario

REQUEST = GenerateRequest((5, 6, 7), 6, ignore_eos=True)


def test_it_knows_what_comes_or_never_does() -> None:
    scenario = make_scenario(random.Random(4))
    whole = expected_output(REQUEST, scenario.n_layers, scenario.coordinator.context)
    tokens = [sampled.token for sampled in whole]
    rng = random.Random(1)
    right = Oracle(REQUEST, replace(scenario, guess_rate=1.0), rng)
    wrong = Oracle(REQUEST, replace(scenario, guess_rate=0.0), rng)
    for oracle in (right, wrong):
        oracle.accept(tokens[:1])
    n_guessed = 0
    for _ in range(40):
        guesses = [guess.token for guess in right.propose(tokens[1:2], 3)]
        assert guesses == tokens[2 : 2 + len(guesses)]
        n_guessed += len(guesses)
        guesses = [guess.token for guess in wrong.propose([], 3)]
        assert all(a != b for a, b in zip(guesses, tokens[1:], strict=False))
    assert n_guessed
