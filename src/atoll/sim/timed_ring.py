"""A ring where everything takes its mean time, and that notes when tokens are told."""

from __future__ import annotations

import random

from atoll.domain.ids import SessionId
from atoll.ring import coordinator_messages as gate
from atoll.sim.ring_sim import RingSim
from atoll.sim.scenario import Scenario


class Steady(random.Random):
    """Delays are what they are on average."""

    def expovariate(self, lambd: float = 1.0) -> float:
        """The mean."""
        return 1 / lambd


class TimedRing(RingSim):
    """One run without chance in it; `told_s` are the times of each session's tokens."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario, Steady(1))
        self.told_s: dict[SessionId, list[float]] = {}

    def _perform(self, effect: gate.CoordinatorEffect, swallowed: int) -> None:
        if isinstance(effect, gate.Emit):
            self.told_s.setdefault(effect.session, []).append(self.chain.heap.now_s)
        super()._perform(effect, swallowed)
