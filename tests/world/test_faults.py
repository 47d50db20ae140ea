"""Each fault begins, lasts and ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from atoll.world.faults import Faults
from atoll.world.lives import Lives
from atoll.world.loop import SimLoop
from atoll.world.machine import Machine
from atoll.world.network import Network
from atoll.world.scenario import Fault, FaultKind
from atoll.world.trace import Trace


class Bench:
    """A gateway and two nodes that only live."""

    def __init__(self) -> None:
        self.loop = SimLoop()
        self.gateway, self.one, self.two = self.all = [
            Machine(name, f"10.0.0.{i}") for i, name in enumerate(("gateway", "one", "two"), 1)
        ]
        self.trace = Trace(self.loop)
        self.net = Network(self.loop, random.Random(1), self.trace, self.all, way_s=0.01)
        self.goodbyes: list[tuple[float, str, bool]] = []

    def run(self, fault: Fault, look: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def work() -> None:
            async with asyncio.TaskGroup() as tasks:
                lives = Lives(self.net, tasks)
                for machine in self.all:
                    lives.begin(machine, lambda machine=machine: self._live(machine))  # type: ignore[misc]
                faults = Faults(self.net, lives, self.gateway, [self.one, self.two])
                carried = tasks.create_task(faults.carry_out(fault))
                await asyncio.sleep(fault.at_s + fault.lasts_s / 2)
                await look()
                await carried
                assert all(m.alive and m.powered and not m.lies for m in self.all)
                assert all(m.slow == 1 and not m.disk_is_full for m in self.all)
                assert all(self.net.is_open(a, b) for a in self.all for b in self.all)
                for machine in self.all:
                    await lives.stop(machine)

        self.loop.run_until_complete(work())
        self.loop.close()

    async def _live(self, machine: Machine) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.goodbyes.append((self.loop.time(), machine.name, machine.alive))


def fault(kind: FaultKind, *, other: int = -1, size: float = 0.9) -> Fault:
    return Fault(1.0, kind, 0, other, 2.0, size)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize(
    ("kind", "hit", "in_order"),
    [
        ("crash", "one", False),
        ("power", "one", False),
        ("restart", "one", True),
        ("gateway crash", "gateway", False),
        ("gateway restart", "gateway", True),
    ],
)
def test_a_life_ends_and_another_begins(
    bench: Bench, kind: FaultKind, hit: str, in_order: bool
) -> None:
    machine = next(m for m in bench.all if m.name == hit)

    async def look() -> None:
        assert bench.goodbyes == [(1.0, hit, in_order)]
        assert (machine.alive, machine.powered) == (False, kind != "power")

    bench.run(fault(kind), look)
    assert machine.life == 2
    assert bench.trace.faults == {kind: 1}


@pytest.mark.parametrize(
    ("kind", "size", "shut"),
    [
        ("partition", 0.9, {"gateway>one", "one>gateway", "one>two", "two>one"}),
        ("one-way", 0.1, {"one>gateway", "one>two"}),
        ("one-way", 0.9, {"gateway>one", "two>one"}),
        ("way", 0.9, {"one>two", "two>one"}),
    ],
)
def test_ways_are_cut(bench: Bench, kind: FaultKind, size: float, shut: set[str]) -> None:
    async def look() -> None:
        pairs = [(a, b) for a in bench.all for b in bench.all]
        assert {f"{a.name}>{b.name}" for a, b in pairs if not bench.net.is_open(a, b)} == shut

    bench.run(fault(kind, other=1, size=size), look)


def test_a_machine_is_unwell(bench: Bench) -> None:
    async def look() -> None:
        assert bench.one.slow > 50

    bench.run(fault("slow"), look)


@pytest.mark.parametrize("size", [0.1, 0.9])
def test_a_clock_jumps_and_jumps_back_half(size: float) -> None:
    bench = Bench()
    hit = bench.gateway if size < 0.3 else bench.one
    jumps: list[float] = []

    async def look() -> None:
        jumps.append(hit.clock_offset_s)

    bench.run(fault("clock", size=size), look)
    assert (jumps[0] > 0) == (size > 0.5)
    assert hit.clock_offset_s == jumps[0] / 2


@pytest.mark.parametrize("kind", ["disk", "liar"])
def test_a_disk_is_full_and_a_node_lies(bench: Bench, kind: FaultKind) -> None:
    async def look() -> None:
        assert (bench.one.disk_is_full, bench.one.lies) == (kind == "disk", kind == "liar")

    bench.run(fault(kind), look)


@pytest.mark.parametrize(("size", "hit"), [(0.1, "gateway"), (0.9, "one")])
def test_engines_are_killed(bench: Bench, size: float, hit: str) -> None:
    killed: list[str] = []
    for machine in bench.all:
        machine.engines.append(lambda _reason, name=machine.name: killed.append(name))  # type: ignore[misc]

    async def look() -> None:
        assert killed == [hit]

    bench.run(fault("engine", size=size), look)
