"""When a ring is left for a better one; a whole fleet does it in tests/e2e/test_planned.py."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from tests.gateway.test_known_times import MEASURED
from tests.gateway.test_ring_plan import member

from atoll.domain.control import StageReport
from atoll.domain.errors import AtollError
from atoll.domain.ids import Epoch, ShardId
from atoll.gateway import replanner as module
from atoll.gateway.casting import Cast
from atoll.gateway.replanner import Replanner
from atoll.model.manifest import ShardEntry


@dataclass
class Fleet:
    """Changes when the test says so."""

    changes: int = 0
    everybody: tuple[()] = ()
    rearranged: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def measuring(self) -> Any:
        fleet = self

        class Known:
            distances = cast(Any, type("D", (), {"links": staticmethod(lambda: ())}))

            async def wait_settled(self) -> None:
                assert fleet

        return Known()

    async def wait_change(self, _since: int) -> None:
        await self.changed.wait()
        self.changed.clear()

    def on_rearranged(self) -> None:
        self.rearranged += 1


class Caster:
    """Says what the test wants, one after the other."""

    def __init__(self, *gains: float | AtollError) -> None:
        self.gains = list(gains)
        self.asked = 0

    async def gain_over(self, *_args: object) -> float:
        self.asked += 1
        gain = self.gains.pop(0)
        if isinstance(gain, AtollError):
            raise gain
        return gain


class Ends:
    window_s = ()


def watching(fleet: Fleet, caster: Caster, said: list[str]) -> Any:
    replanner = Replanner(*cast(Any, (fleet, caster, Ends())), tell=said.append)
    return replanner.watch(Cast((), ()))


async def test_only_a_gain_that_is_worth_it_moves_the_ring() -> None:
    fleet, said = Fleet(), list[str]()
    caster = Caster(0.0, 1.2, AtollError("nothing fits"), 2.0)
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        watch = tasks.create_task(watching(fleet, caster, said))
        for asked in range(1, 5):
            assert (fleet.rearranged, watch.done()) == (0, False)
            fleet.changed.set()
            while caster.asked < asked:
                await asyncio.sleep(0)
        await watch
    assert fleet.rearranged == 1
    assert said == ["another ring would be 2.0 times as fast: the ring is rearranged"]


async def test_it_looks_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    fleet, said = Fleet(), list[str]()
    await asyncio.wait_for(watching(fleet, Caster(1.0, 1.0, 1.3), said), 5)
    assert fleet.rearranged == 1


async def test_without_a_ring_there_is_nothing_to_leave() -> None:
    replanner = Replanner(*cast(Any, (Fleet(), Caster(), Ends())), tell=print)
    await asyncio.wait_for(replanner.watch(None), 1)


def report(steps: int, step_s: float) -> StageReport:
    return StageReport(Epoch(1, 1), 1, 1, 1, steps, 0.1, 0.1, steps * step_s, 0.1, 1, 0, (), steps)


async def test_a_node_that_takes_longer_than_it_said_is_planned_as_it_is() -> None:
    """Measured, or said, was 1 ms a layer; its stage of four layers takes 20 ms, then 4 again."""
    one = member(0)
    one.measured = MEASURED
    ring = Cast((one,), (ShardEntry(1, 5, ShardId("a" * 64), 9),))
    fleet, caster = Fleet(), Caster(1.0, 1.0, 1.0, 2.0)
    replanner = Replanner(*cast(Any, (fleet, caster, Ends())), tell=lambda _line: None)
    seen = []
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        tasks.create_task(replanner.watch(ring))
        for asked, (steps, step_s) in enumerate(
            [(10, 0.02), (60, 0.02), (160, 0.0098), (161, 1)], 1
        ):
            one.report = report(steps, step_s)
            fleet.changed.set()
            while caster.asked < asked:
                await asyncio.sleep(0)
            seen.append(round(one.slower, 1))
    # Of ten steps nothing is said; of the last one neither.
    assert seen == [1.0, 4.8, 1.0, 1.0]
