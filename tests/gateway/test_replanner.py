"""When a ring is left for a better one; a whole fleet does it in tests/e2e/test_planned.py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from tests.gateway.test_known_times import MEASURED
from tests.gateway.test_prefetching import asked, nodes
from tests.gateway.test_ring_plan import MANIFEST, member

from atoll.domain.control import NotPrefetched, Prefetch, Prefetched, StageReport
from atoll.domain.errors import AtollError
from atoll.domain.ids import Epoch, ShardId
from atoll.gateway import replanner as module
from atoll.gateway.casting import Cast
from atoll.gateway.replanner import Replanner
from atoll.members.member import Member
from atoll.model.manifest import ShardEntry

STANDING, BETTER = Cast((), ()), Cast((), ())


@dataclass
class Fleet:
    """Changes when the test says so."""

    changes: int = 0
    everybody: list[Member] = field(default_factory=list)
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
        await self.wait_news()

    async def wait_news(self) -> None:
        await self.changed.wait()
        self.changed.clear()


class Caster:
    """Says what the test wants, one after the other."""

    manifest = MANIFEST

    def __init__(self, *gains: float | AtollError, found: Cast | None = None) -> None:
        self.gains = list(gains)
        self.found = found or BETTER
        self.gain_later = 2.0
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
        return gain, (self.found,)

    def gain(self, casts: Sequence[Cast], *_args: object) -> float:
        assert casts == (self.found,)
        return self.gain_later


class Ends:
    window_s = ()


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


def newcomer(fleet: Fleet) -> tuple[Member, Cast]:
    """A node whose shard is all that a better ring lacks."""
    one = nodes(1).everybody[0]
    fleet.everybody.append(one)
    return one, Cast((one,), MANIFEST.shards[:1])


async def news(fleet: Fleet) -> None:
    fleet.changed.set()
    await turns()


async def test_shards_are_fetched_before_rings_are_left() -> None:
    fleet = Fleet()
    one, better = newcomer(fleet)
    caster = Caster(2.0, found=better)
    caster.gain_later = 1.5
    async with asyncio.timeout(5), Watch(fleet, caster) as watch:
        await turns()
        await news(fleet)
        [order] = asked(one)
        assert isinstance(order, Prefetch)
        assert watch.moves == []
        one.prefetch = Prefetched(order.number)
        await news(fleet)
    assert watch.moves == [(better,)]
    # What was foretold before the fetch was looked at again.
    assert watch.said[-2:] == [
        "0.0 MiB for a better ring are fetched",
        "other rings would be 1.5 times as fast: the rings are rearranged",
    ]


@pytest.mark.parametrize("worth", [True, False])
async def test_rings_that_changed_during_a_fetch_are_left_alone(worth: bool) -> None:
    fleet = Fleet()
    one, better = newcomer(fleet)
    caster = Caster(2.0, found=better)
    async with asyncio.timeout(5), Watch(fleet, caster) as watch:
        await turns()
        await news(fleet)
        if worth:
            watch.standing.clear()
        else:
            caster.gain_later = 1.1
        one.prefetch = Prefetched(1)
        await news(fleet)
    assert one.holds == {(1, 3)}
    assert watch.moves == []


async def test_rings_stay_while_better_ones_lack_a_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same is not tried again soon, unless somebody came or left."""
    fleet = Fleet()
    one, better = newcomer(fleet)
    caster = Caster(*[2.0] * 9, found=better)

    async def fail(number: int) -> None:
        one.prefetch = NotPrefetched(number, "no room")
        await news(fleet)

    async with asyncio.timeout(5), Watch(fleet, caster) as watch:
        await turns()
        await news(fleet)
        await fail(1)
        assert watch.said[-1] == (
            "the rings stay as they are, better ones have to wait:"
            " n0 cannot fetch its layers: no room"
        )
        await news(fleet)
        assert (caster.asked, len(asked(one))) == (2, 1)
        fleet.changes += 1
        await news(fleet)
        assert len(asked(one)) == 2
        await fail(2)
        monkeypatch.setattr(module, "RETRY_S", 0.0)
        await news(fleet)
        assert len(asked(one)) == 3
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
