"""Products and an all-reduce over many chips, held against what Groq published.

- `matmul_us`: microseconds of 800 x 32576 times 32576 x 8192 in f16, by chips; `matmul_peak_us`
  is what the planes' peak would take. `error_matmul` is the median of the relative errors against
  latencies read off figure 14 of ISCA 2022, `error_matmul_by_chips` each of them, and
  `error_matmul_by_throughput` that of 100 chips against the throughput in the same figure, which
  says about a quarter of that latency.
- `all_reduce_us`: of one vector over 256 chips; `error_all_reduce` against three hops of the
  published 722 ns, the network latency that the paper tells.

Nothing is fitted to these figures. `matmul_compile_s` is this machine's time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from atoll.lpu.check.programs import check
from atoll.lpu.compiler.spread.all_reduce import all_reduce
from atoll.lpu.compiler.spread.product import product
from atoll.lpu.machine import shipped_chips
from atoll.lpu.program import Program
from atoll.lpu.timing import Timing, shipped_assumed
from atoll.lpu.topology import Topology, build, shipped_systems

CHIP = "Groq TSP"
SYSTEM = "Dragonfly of 264"


@dataclass(frozen=True, slots=True)
class Task:
    """A product of a shape (rows, depth, width) in f16 on so many nodes, and how long it took on
    some of their chips by what is published.
    """

    shape: tuple[int, int, int]
    nodes: int
    published_us: Mapping[int, float]
    throughput: tuple[int, float]
    """Chips, and microseconds by the throughput that is published for them."""


PAPER = Task(
    (800, 32576, 8192),
    nodes=13,
    published_us={8: 330.0, 16: 150.0, 100: 120.0},
    # 13,000 TFLOPS.
    throughput=(100, 2 * 800 * 32576 * 8192 / 13000e12 * 1e6),
)
ALL_REDUCE_NODES = 32
ALL_REDUCE_US = 2.166


def run() -> dict[str, Any]:
    """All figures."""
    return matmuls(PAPER) | reduced(ALL_REDUCE_NODES)


def matmuls(task: Task) -> dict[str, Any]:
    """A product on each number of chips."""
    timing = Timing(shipped_chips().find(CHIP), shipped_assumed())
    topology = build(shipped_systems().find(SYSTEM), nodes=task.nodes)
    rows, depth, width = task.shape
    peak = 1e6 * rows * depth * width / timing.chip.macs_cycle("fp16") / timing.chip.hertz
    found: dict[int, float] = {}
    compiled: dict[int, float] = {}
    conflicts = 0
    for chips in task.published_us:
        begun = time.perf_counter()
        made = product(timing, topology, task.shape, chips=chips)
        compiled[chips] = round(time.perf_counter() - begun, 2)
        found[chips] = round(1e6 * made.seconds, 2)
        conflicts += conflicts_of(made.program, timing, topology)
    errors = {chips: error(found[chips], us) for chips, us in task.published_us.items()}
    most, throughput_us = task.throughput
    return {
        "matmul_us": found,
        "matmul_peak_us": {chips: round(peak / chips, 2) for chips in found},
        "matmul_published_us": dict(task.published_us),
        "error_matmul": statistics.median(errors.values()),
        "error_matmul_by_chips": errors,
        "error_matmul_by_throughput": error(found[most], throughput_us),
        "matmul_conflicts": conflicts,
        "matmul_compile_s": compiled,
    }


def reduced(nodes: int) -> dict[str, Any]:
    """One vector summed over the chips of so many nodes."""
    timing = Timing(shipped_chips().find(CHIP), shipped_assumed())
    topology = build(shipped_systems().find(SYSTEM), nodes=nodes)
    made = all_reduce(timing, topology, 1)
    us = round(1e6 * made.seconds, 3)
    return {
        "all_reduce_chips": topology.chips,
        "all_reduce_us": us,
        "error_all_reduce": error(us, ALL_REDUCE_US),
        "all_reduce_conflicts": conflicts_of(made.program, timing, topology),
    }


def conflicts_of(program: Program, timing: Timing, topology: Topology) -> int:
    """What the checker finds in a schedule."""
    return len(check(program, timing, topology))


def error(ours: float, published: float) -> float:
    """Relative."""
    return round(abs(ours / published - 1), 4)
