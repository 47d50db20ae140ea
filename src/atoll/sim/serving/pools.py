"""Machines that come and go, and the systems that they form.

A pool has systems of as many machines each, and machines that stand by. One that leaves a
system is replaced by one that stands by: the system pauses until that one has taken over and
the caches of its part are computed again from the log, and no token is lost. With none
standing by, the system is dissolved, its streams begin again elsewhere with all tokens they
have, and its other machines stand by.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

from atoll.forecast.constants import Constants
from atoll.forecast.fleet_file import Fleet, Part
from atoll.forecast.outlook import KV_BYTES, Workload
from atoll.forecast.paces import Pace
from atoll.forecast.systems import Systems, systems_of
from atoll.sim.serving.caches import BLOCK_TOKENS, PrefixCache, Tier
from atoll.sim.serving.replica import Replica

HOUR_S = 3600.0
FORM_S = 3.0
"""From enough machines to a ring that serves: layers are there (machines that stand by keep
them), connections are made and caches begin empty. This project's own: a gateway that starts
anew has its ring after 2.96 s (`python -m bench gateway-deaths`: down_s_median).
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


def pools_of(
    fleet: Fleet, work: Workload, constants: Constants, patience_s: float = math.inf
) -> list[Pool]:
    """The systems of each part.

    Raises:
        BadRequest: A part cannot hold the model, or too little is published of its devices.
    """
    return [_pool(systems_of(part, work, constants), patience_s) for part in fleet.parts]


def _pool(systems: Systems, patience_s: float) -> Pool:
    part, pace = systems.part, systems.pace
    replicas = [
        Replica(
            pace,
            hands_over=part.role == "prefill",
            takes_over=part.role == "decode",
            patience_s=patience_s,
            cache=_cache(part, pace),
        )
        for _ in range(systems.count)
    ]
    return Pool(
        name=part.name,
        replicas=replicas,
        size=systems.size,
        spares=systems.spares,
        leave_rate=part.leave / HOUR_S,
        back_s=part.back_s,
        takeover_s=part.takeover_s,
        watts=pace.watts[1] / systems.size,
        hourly=systems.hourly,
    )


def _cache(part: Part, pace: Pace) -> PrefixCache | None:
    """Of one system: what streams leave of its memory, and tiers beside it."""
    if not part.reuse or pace.room == math.inf:
        return None
    shape = pace.shape
    block = shape.kv_values * KV_BYTES * shape.layers * BLOCK_TOKENS
    own = Tier(pace.room / shape.layers / BLOCK_TOKENS)
    others = [Tier(tier.bytes / block, block / tier.rate) for tier in part.caches]
    return PrefixCache([own, *others])
