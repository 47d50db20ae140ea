"""Machines that come and go, and the systems that they form.

A pool has systems of as many machines each, and machines that stand by. One that leaves a
system is replaced by one that stands by: the system pauses until that one has taken over and
the caches of its part are computed again from the log, and no token is lost. With none
standing by, the system is dissolved, its streams begin again elsewhere with all tokens they
have, and its other machines stand by.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from atoll.sim.serving.replica import Replica

FORM_S = 10.0
"""From enough machines to a ring that serves: layers are there (machines that stand by keep
them), connections are made and caches begin empty.
"""


@dataclass(slots=True)
class Pool:
    """Systems of `size` machines each, of which some may be down; `spares` stand by.

    `leave_rate` is a machine's, per second; `watts` and `hourly` are those of a machine that
    stands by.
    """

    name: str
    replicas: list[Replica]
    size: int
    spares: int = 0
    leave_rate: float = 0.0
    back_s: float = 0.0
    takeover_s: float = 0.0
    watts: float = 0.0
    hourly: float = 0.0
    down: list[Replica] = field(default_factory=list)
    forming: int = 0
    """Systems that have their machines, and do not serve yet."""
    spare_s: float = 0.0
    """Seconds that machines stood by, all together."""
    _counted_s: float = 0.0

    @property
    def machines(self) -> int:
        """That are there."""
        up = len(self.replicas) - len(self.down)
        return (up + self.forming) * self.size + self.spares

    def pass_time(self, now_s: float) -> None:
        """Count how long machines stood by; to be told before their number changes."""
        self.spare_s += self.spares * (now_s - self._counted_s)
        self._counted_s = now_s

    def next_leave_s(self, rng: random.Random) -> float:
        """Seconds until the next machine leaves, whichever; inf: none does."""
        rate = self.leave_rate * self.machines
        return rng.expovariate(rate) if rate else float("inf")

    def hit(self, rng: random.Random) -> Replica | None:
        """Which system the machine that leaves is of; None: it stood by, or forms one."""
        at = rng.randrange(self.machines)
        serving = (len(self.replicas) - len(self.down)) * self.size
        if at >= serving:
            return None
        up = [replica for replica in self.replicas if replica.is_up]
        return up[at // self.size]
