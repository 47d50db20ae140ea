"""A drafter that knows what the model will say, and is wrong now and then."""

from __future__ import annotations

import random
from collections.abc import Sequence

from atoll.domain.generation import GenerateRequest
from atoll.ring.drafting import GRADES, Guess
from atoll.sim.fake_model import VOCABULARY, expected_output
from atoll.sim.scenario import Scenario


class Oracle:
    """Guesses right as often as the scenario says.

    Args:
        request: The session's.
        scenario: Its model, and how often guesses are right.
        rng: Decides which are.
    """

    def __init__(self, request: GenerateRequest, scenario: Scenario, rng: random.Random) -> None:
        whole = expected_output(request, scenario.n_layers, scenario.coordinator.context)
        self._tokens = [sampled.token for sampled in whole]
        self._rate = scenario.guess_rate
        self._rng = rng
        self._accepted = 0

    def accept(self, tokens: Sequence[int]) -> None:
        """These were sampled."""
        self._accepted += len(tokens)

    def propose(self, after: Sequence[int], n: int) -> list[Guess]:
        """Tokens to come, some of them wrong; fewer than asked for at times."""
        at = self._accepted + len(after)
        found = self._tokens[at : at + self._rng.randint(0, n)]
        said = [t if self._rng.random() < self._rate else self._wrong(t) for t in found]
        return [Guess(token, self._rng.randrange(len(GRADES))) for token in said]

    def _wrong(self, token: int) -> int:
        return (token + self._rng.randrange(1, VOCABULARY)) % VOCABULARY
