"""How long planning takes, and how good a large plan is at least.

Fleets as one finds them: machines whose layers take 0.5 to 20 ms, 4 to 24 GiB of
memory, 1 to 60 ms from the gateway. The model has the shape of a 70B one at four
bits: 80 layers of 450 MB.
"""

from __future__ import annotations

import random
import statistics
import time
from typing import Any

from atoll.domain.measure import WindowTime
from atoll.plan.fleet import Demand, Fleet, Gateway, LinkEntry, Machine, ModelCosts
from atoll.plan.planner import plan_ring

MODEL = ModelCosts((450_000_000,) * 80, (4096,) * 80, tuple(range(81)), 16_385)
ROUNDS = 3
GIB = 1024**3


def some_fleet(n: int, seed: int) -> Fleet:
    """A fleet of `n` machines."""
    rng = random.Random(seed)
    machines = []
    for i in range(n):
        layer_s = 10 ** rng.uniform(-3.3, -1.7)
        times = tuple(WindowTime(rows, layer_s * rows**0.7) for rows in (1, 4, 16, 64, 256))
        memory = int(rng.uniform(8, 24) * GIB)
        machines.append(Machine(f"m{i}", memory, times, 0.001))
    links = tuple(
        LinkEntry("gateway", m.name, rng.uniform(0.001, 0.06), 10 ** rng.uniform(6, 8))
        for m in machines
    )
    ends = tuple(WindowTime(rows, 0.01 * rows**0.7) for rows in (1, 4, 16, 64, 256))
    return Fleet(Gateway(ends), tuple(machines), links)


def solve_s(n: int, demand: Demand) -> tuple[float, float]:
    """Median seconds for a plan of `n` machines, and the largest gap, over some fleets."""
    seconds, gaps = [], []
    for seed in range(ROUNDS):
        fleet = some_fleet(n, seed)
        began_s = time.perf_counter()
        plan = plan_ring(fleet, MODEL, demand)
        seconds.append(time.perf_counter() - began_s)
        gaps.append(plan.gap)
    return statistics.median(seconds), max(gaps)


def run() -> dict[str, Any]:
    """For a lone stream and for 16, the slower of the two, and the larger gap."""
    demands = (Demand(streams=1), Demand(streams=16))
    small = [solve_s(8, demand) for demand in demands]
    large = [solve_s(1000, demand) for demand in demands]
    return {
        "solve_s_8x80": round(max(seconds for seconds, _ in small), 3),
        "solve_s_1000x80": round(max(seconds for seconds, _ in large), 3),
        "gap_1000x80": round(max(gap for _, gap in large), 3),
        "gap_1000x80_one_stream": round(large[0][1], 3),
    }
