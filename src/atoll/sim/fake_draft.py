"""A draft model over the model of hashes: it knows what will be said, and errs now and then."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from atoll.domain.generation import GenerateRequest
from atoll.domain.ids import Slot
from atoll.ring.coordinator_messages import DraftItem, RunDraft
from atoll.sim.fake_model import VOCABULARY, ModelMisuse, expected_output
from atoll.sim.scenario import Scenario

FAIL_RATE = 0.02
"""How often an item cannot be computed."""


class FakeDraft:
    """Guesses right as often as the scenario says; checks that it is asked for what can be.

    Args:
        requests: All that may be asked.
        scenario: Its model, and how often guesses are right.
        rng: Decides which are, and which items fail.
    """

    def __init__(
        self, requests: Iterable[GenerateRequest], scenario: Scenario, rng: random.Random
    ) -> None:
        layers, context = scenario.n_layers, scenario.coordinator.context
        self._context = context
        self._rate, self._rng = scenario.guess_rate, rng
        self._texts = [
            [*r.prompt, *(s.token for s in expected_output(r, layers, context))] for r in requests
        ]
        self._read: dict[Slot, list[int]] = {}

    def run(self, effect: RunDraft) -> tuple[tuple[int, ...] | None, ...]:
        """Guesses of each item; None where it fails.

        Raises:
            ModelMisuse: An item that must not be asked for.
        """
        if len({item.slot for item in effect.items}) != len(effect.items):
            raise ModelMisuse("a slot is twice in one draft")
        return tuple(self._item(item) for item in effect.items)

    def _item(self, item: DraftItem) -> tuple[int, ...] | None:
        read = self._read.setdefault(item.slot, [])
        if item.keep > len(read):
            raise ModelMisuse(f"slot {item.slot}: {len(read)} tokens were read, not {item.keep}")
        if not item.tokens or len(item.hints) >= max(1, item.n):
            raise ModelMisuse(f"{len(item.hints)} hints at {item.n} guesses")
        text = [*read[: item.keep], *item.tokens]
        if len(text) + max(0, item.n - 1) > self._context:
            raise ModelMisuse("a draft goes beyond the context")
        if self._rng.random() < FAIL_RATE:
            # What is in the cache then is not known.
            del read[:]
            return None
        found = self._guess(text, item.n)
        self._read[item.slot] = [*text, *found[:-1]]
        return tuple(found)

    def _guess(self, text: Sequence[int], n: int) -> list[int]:
        size = len(text)
        whole = next((t for t in self._texts if t[:size] == text), [])
        right = [*whole[size : size + n], *([1] * n)][:n]
        return [t if self._rng.random() < self._rate else (t + 1) % VOCABULARY for t in right]
