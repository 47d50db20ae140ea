"""Shards asked for ahead: who is asked for what, who is waited for, and when that ends."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from tests.gateway.test_ring_plan import MANIFEST, Link, member

from atoll.domain.control import (
    ControlMessage,
    Lend,
    NotPrefetched,
    Prefetch,
    Prefetched,
    Prefetching,
)
from atoll.domain.errors import RingDown
from atoll.domain.ids import NodeId
from atoll.domain.prefetch import prefetch_problem
from atoll.gateway import prefetching as module
from atoll.gateway.prefetching import Prefetcher
from atoll.members.member import Member
from atoll.model.manifest import ShardEntry

SHARDS = MANIFEST.shards


@dataclass
class Hearing(Link):
    """A link that keeps what is sent on it."""

    sent: list[ControlMessage] = field(default_factory=list)

    def send(self, message: ControlMessage) -> None:
        self.sent.append(message)


@dataclass
class Nodes:
    """A fleet of nodes whose every word is the test's."""

    everybody: list[Member]
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def send(self, node: NodeId, message: ControlMessage) -> None:
        [found] = [one for one in self.everybody if one.link.peer == node]
        found.link.send(message)

    async def wait_news(self) -> None:
        self.changed.clear()
        await self.changed.wait()

    async def hear(self, said: Member, message: Prefetching | Prefetched | NotPrefetched) -> None:
        said.prefetch = message
        self.changed.set()
        await settled()


def begun(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Work that goes on beside the test."""
    return asyncio.get_running_loop().create_task(work)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def nodes(count: int = 2) -> Nodes:
    found = [member(place) for place in range(count)]
    for one in found:
        one.link = cast(Any, Hearing(one.link.peer))
    return Nodes(found)


def asked(one: Member) -> list[ControlMessage]:
    return cast(Any, one.link).sent  # type: ignore[no-any-return]


def prefetcher(fleet: Nodes, said: list[str] | None = None) -> Prefetcher:
    tell = (said if said is not None else []).append
    return Prefetcher(cast(Any, fleet), MANIFEST, tell=tell)


async def test_who_has_its_shard_is_not_asked() -> None:
    fleet, said = nodes(), list[str]()
    for one, entry in zip(fleet.everybody, SHARDS, strict=True):
        one.holds.add((entry.first, entry.last))
    await asyncio.wait_for(prefetcher(fleet, said).fetch(fleet.everybody, SHARDS), 1)
    assert (asked(fleet.everybody[0]), said) == ([], [])


async def test_it_waits_until_all_have_what_they_lack() -> None:
    fleet, said = nodes(3), list[str]()
    first, second, lender = fleet.everybody
    lender.holds.add((1, 3))
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        fetch = tasks.create_task(prefetcher(fleet, said).fetch((first, second), SHARDS))
        await settled()
        [order] = asked(first)
        assert isinstance(order, Prefetch)
        assert prefetch_problem(order) == ""
        assert (order.first, order.last, order.shard) == (1, 3, SHARDS[0].shard)
        assert (order.model, order.n_layers, order.data_offset) == (MANIFEST.model, 6, 77)
        assert [source.name for source in order.sources] == ["n2"]
        assert asked(lender) == [Lend(first.link.peer, MANIFEST.model, 1, 3)]
        [other] = asked(second)
        assert isinstance(other, Prefetch)
        assert (other.first, other.last, other.sources) == (3, 5, ())
        await fleet.hear(first, Prefetching(order.number, 2, 5))
        assert first.holds == set()
        await fleet.hear(first, Prefetched(order.number))
        assert first.holds == {(1, 3)}
        # An answer to another order is none to this one.
        await fleet.hear(second, Prefetched(other.number + 1))
        await fleet.hear(second, NotPrefetched(other.number - 1, "something newer"))
        assert not fetch.done()
        await fleet.hear(second, Prefetched(other.number))
        await fetch
    assert second.holds == {(3, 5)}
    assert said == [
        "fetching 0.0 MiB for a better ring: n0, n1",
        "0.0 MiB for a better ring are fetched",
    ]


async def test_a_node_that_cannot_is_named() -> None:
    fleet = nodes()
    first, _ = fleet.everybody
    fetch = begun(prefetcher(fleet).fetch(fleet.everybody, SHARDS))
    await settled()
    await fleet.hear(first, NotPrefetched(1, "no room\x1b[2J" + "x" * 1000))
    with pytest.raises(RingDown, match="n0 cannot fetch its layers: no room") as caught:
        await asyncio.wait_for(fetch, 1)
    assert "\x1b" not in caught.value.problem
    assert len(caught.value.problem) < 400
    # The next order has another number: what was said of this one does not count for it.
    again = begun(prefetcher(fleet).fetch(fleet.everybody, SHARDS))
    await settled()
    assert not again.done()
    assert [order.number for order in asked(first) if isinstance(order, Prefetch)] == [1, 2]
    again.cancel()


async def test_a_node_that_leaves_is_named() -> None:
    fleet = nodes()
    fetch = begun(prefetcher(fleet).fetch(fleet.everybody, SHARDS))
    await settled()
    gone = fleet.everybody.pop()
    fleet.changed.set()
    with pytest.raises(RingDown, match=f"{gone.name} left while it fetched"):
        await asyncio.wait_for(fetch, 1)


async def test_who_came_back_is_another_one() -> None:
    fleet = nodes()
    before = list(fleet.everybody)
    fetch = begun(prefetcher(fleet).fetch(before, SHARDS))
    await settled()
    fleet.everybody[1] = nodes().everybody[1]
    fleet.changed.set()
    with pytest.raises(RingDown, match="n1 left"):
        await asyncio.wait_for(fetch, 1)


def large(size_bytes: int) -> tuple[ShardEntry, ...]:
    return tuple(ShardEntry(e.first, e.last, e.shard, size_bytes) for e in SHARDS)


async def test_who_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)
    fleet = nodes()
    first, second = fleet.everybody
    fetch = begun(prefetcher(fleet).fetch(fleet.everybody, SHARDS))
    await settled()
    await fleet.hear(first, Prefetched(1))
    with pytest.raises(RingDown, match=r"n1 got no further .*: 0.0 MiB of 0.0 MiB are there"):
        await asyncio.wait_for(fetch, 5)
    # What the other one has counts all the same.
    assert (first.holds, second.holds) == ({(1, 3)}, set())


async def test_words_without_bytes_are_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps count: a byte now and then, or more than there is, does not draw a fetch out."""
    order = module._Order(member(0), large(10 * module.STEPS)[0], 1, 5.0)
    patience_s = order.patience_s
    for here, at_s in ((9, 1.0), (9, 2.0)):
        order.note(here, at_s)
        assert order.deadline_s == 5.0
    order.note(10, 3.0)
    assert order.deadline_s == 3.0 + patience_s
    order.note(19, 4.0)
    assert order.deadline_s == 3.0 + patience_s
    order.note(1 << 50, 5.0)
    assert order.deadline_s == 5.0 + patience_s
    order.note(1 << 55, 6.0)
    assert order.deadline_s == 5.0 + patience_s
    # A large shard takes longer to be read and hashed.
    big = module._Order(member(0), large(50 * 10**9)[0], 1, 0.0)
    assert big.patience_s == module.PATIENCE_S + 1000


async def test_it_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TELL_S", 0.0)
    fleet, said = nodes(), list[str]()
    shards = large(4 << 20)
    fetch = begun(prefetcher(fleet, said).fetch(fleet.everybody, shards))
    await settled()
    await fleet.hear(fleet.everybody[0], Prefetching(1, 1 << 20, 4 << 20))
    await fleet.hear(fleet.everybody[1], Prefetched(1))
    await fleet.hear(fleet.everybody[0], Prefetched(1))
    await asyncio.wait_for(fetch, 1)
    assert said[0] == "fetching 8.0 MiB for a better ring: n0, n1"
    assert "fetching for a better ring: 1.0 MiB of 8.0 MiB" in said
    assert said[-1] == "8.0 MiB for a better ring are fetched"
