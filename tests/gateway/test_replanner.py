"""When a ring is left for a better one; a whole fleet does it in tests/e2e/test_planned.py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
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


class Caster:
    """Says what the test wants, one after the other."""

    def __init__(self, *gains: float | AtollError) -> None:
        self.gains = list(gains)
        self.asked = 0
        self.while_planning: Callable[[], None] = lambda: None

    async def better(
        self, standing: Sequence[Cast], *_args: object, rings_max: int
    ) -> tuple[float, tuple[Cast, ...]]:
        assert rings_max == 3
        gain = self.gains.pop(0)
        self.asked += 1
        self.while_planning()
        if isinstance(gain, AtollError):
            raise gain
        return gain, (BETTER,)


class Ends:
    window_s = ()


STANDING, BETTER = Cast((), ()), Cast((), ())


class Watch:
    """A replanner that watches inside the block, and what it had rearranged."""

    def __init__(self, fleet: Fleet, caster: Caster, *standing: Cast) -> None:
        self.said: list[str] = []
        self.moves: list[Sequence[Cast]] = []
        self.standing = list(standing or (STANDING,))
        self._watched = Replanner(*cast(Any, (fleet, caster, Ends())), tell=self.said.append)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Watch:
        tasks = await self._stack.enter_async_context(asyncio.TaskGroup())
        watching = self._watched.watch(lambda: [*self.standing], self.moves.append, 3)
        task = tasks.create_task(watching)
        self._stack.callback(task.cancel)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()


async def turns(times: int = 20) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


async def test_only_a_gain_that_is_worth_it_moves_rings() -> None:
    fleet = Fleet()
    caster = Caster(0.0, 1.2, AtollError("nothing fits"), 2.0)
    async with asyncio.timeout(5), Watch(fleet, caster) as watch:
        for asked in range(1, 5):
            assert watch.moves == []
            fleet.changed.set()
            while caster.asked < asked:
                await asyncio.sleep(0)
        await turns()
    assert watch.moves == [(BETTER,)]
    assert watch.said == ["other rings would be 2.0 times as fast: the rings are rearranged"]


async def test_it_looks_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    async with asyncio.timeout(5), Watch(Fleet(), Caster(1.0, 1.0, 1.3, *[1.0] * 999)) as watch:
        while not watch.moves:
            await asyncio.sleep(0.01)
    assert watch.moves == [(BETTER,)]


async def test_rings_that_changed_while_it_planned_are_left_alone() -> None:
    fleet, caster = Fleet(), Caster(2.0)
    async with asyncio.timeout(5), Watch(fleet, caster) as watch:
        caster.while_planning = watch.standing.clear
        fleet.changed.set()
        while not caster.asked:
            await asyncio.sleep(0)
        await turns()
    assert watch.moves == []


def report(steps: int, step_s: float) -> StageReport:
    return StageReport(Epoch(1, 1), 1, 1, 1, steps, 0.1, 0.1, steps * step_s, 0.1, 1, 0, (), steps)


async def test_a_node_that_takes_longer_than_it_said_is_planned_as_it_is() -> None:
    """Measured, or said, was 1 ms a layer; its stage of four layers takes 20 ms, then 4 again."""
    one = member(0)
    one.measured = MEASURED
    ring = Cast((one,), (ShardEntry(1, 5, ShardId("a" * 64), 9),))
    fleet, caster = Fleet(), Caster(1.0, 1.0, 1.0, 1.0)
    seen = []
    async with asyncio.timeout(5), Watch(fleet, caster, ring):
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
