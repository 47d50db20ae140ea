"""Blobs on other nodes: put, got, and done without."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable

import pytest
from tests.support.memory_nodes import LENT_BYTES, LOOPBACK, Lender, open_lender_node

from atoll.domain.address import Address, HostPort
from atoll.domain.ids import NodeId
from atoll.domain.lent_memory import Borrower, MemoryGone, MemoryHere
from atoll.net.identity import Identity
from atoll.net.link import MemoryLink
from atoll.net.listener import Takers
from atoll.net.transport import Transport, open_transport
from atoll.node import memory_lane
from atoll.node import remote_keeper as module
from atoll.node.remote_keeper import RemoteKeeper

pytestmark = pytest.mark.network
NOBODY = NodeId("1" * 64)


@pytest.fixture
async def borrower() -> AsyncIterator[Transport]:
    async with open_transport(Identity.generate(), way="tls") as transport:
        yield transport


@pytest.fixture
async def keeper(borrower: Transport) -> AsyncIterator[RemoteKeeper]:
    opened = RemoteKeeper()
    opened.open(borrower)
    yield opened
    opened.close()


@pytest.fixture
async def lender(borrower: Transport) -> AsyncIterator[Lender]:
    async with asyncio.timeout(30), open_lender_node(borrower.identity.node_id) as opened:
        yield opened


async def test_byte_for_byte(keeper: RemoteKeeper, lender: Lender) -> None:
    keeper.note(lender.here)
    assert keeper.lenders == [lender.key]
    blob = os.urandom(1 << 20)
    assert await keeper.put("x", blob)
    assert await keeper.get("x") == blob
    assert await keeper.get("x") == blob, "it stays"
    assert await keeper.put("x", b"another")
    assert await keeper.get("x") == b"another"
    assert lender.host.store.blobs == 1
    await keeper.drop("x")
    assert await keeper.get("x") is None
    assert lender.host.store.blobs == 0
    await keeper.drop("x")


async def test_without_a_lender_nothing_is_kept(borrower: Transport) -> None:
    keeper = RemoteKeeper()
    assert not await keeper.put("x", b"x")
    keeper.note(MemoryHere(NOBODY, Address(HostPort(LOOPBACK, 1)), 1 << 30))
    assert not await keeper.put("x", b"x"), "not before it is open"
    assert await keeper.get("x") is None
    await keeper.drop("x")
    keeper.open(borrower)
    assert not await keeper.put("x", b"x"), "nobody listens there"
    keeper.close()
    assert keeper.lenders == []
    assert not await keeper.put("x", b"x")


@pytest.mark.parametrize("name", ["", "a b", "x" * 201])
async def test_what_cannot_be_a_name(keeper: RemoteKeeper, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be named"):
        await keeper.put(name, b"x")
    assert await keeper.get(name) is None
    await keeper.drop(name)


async def test_what_no_lender_has_room_for(keeper: RemoteKeeper, lender: Lender) -> None:
    keeper.note(lender.here)
    assert not await keeper.put("x", b"")
    assert not await keeper.put("x", bytes(LENT_BYTES - 1))
    assert not await keeper.put("x", bytes(LENT_BYTES))
    assert await keeper.put("x", b"x")


async def test_the_one_with_the_most_room_is_taken(
    borrower: Transport, keeper: RemoteKeeper, lender: Lender
) -> None:
    async with open_lender_node(borrower.identity.node_id) as other:
        for one in (lender, other):
            keeper.note(one.here)
        for name in "abcd":
            assert await keeper.put(name, bytes(1 << 20))
        assert [one.host.store.blobs for one in (lender, other)] == [2, 2]
        assert [await keeper.get(name) for name in "abcd"] == [bytes(1 << 20)] * 4


async def test_another_node_takes_what_one_refuses(
    borrower: Transport, keeper: RemoteKeeper, lender: Lender
) -> None:
    # The first says that it lends more than it does.
    async with open_lender_node(borrower.identity.node_id, lent_bytes=1 << 20) as small:
        keeper.note(MemoryHere(small.key, small.address, 1 << 30))
        keeper.note(lender.here)
        assert await keeper.put("x", bytes(2 << 20))
        assert (small.host.store.blobs, lender.host.store.blobs) == (0, 1)


async def test_what_made_room_is_none(keeper: RemoteKeeper, lender: Lender) -> None:
    keeper.note(lender.here)
    for name in "abc":
        assert await keeper.put(name, bytes(LENT_BYTES // 2))
    assert [await keeper.get(name) is not None for name in "abc"] == [False, False, True]


async def test_a_node_that_leaves_takes_its_blobs_along(
    keeper: RemoteKeeper, lender: Lender
) -> None:
    keeper.note(lender.here)
    assert await keeper.put("x", b"x")
    keeper.note(MemoryGone(lender.key))
    assert await keeper.get("x") is None
    assert not await keeper.put("x", b"x")
    keeper.note(MemoryGone(NOBODY))
    # It comes back, empty as far as is known here.
    keeper.note(lender.here)
    assert await keeper.get("x") is None
    assert await keeper.put("x", b"y")
    assert await keeper.get("x") == b"y"


async def test_a_link_that_broke_stands_again(
    keeper: RemoteKeeper, lender: Lender, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper.note(lender.here)
    assert await keeper.put("x", b"x")
    assert await keeper.get("x") == b"x"
    for link in lender.links:
        link.close()
        await link.wait_closed()
    # Whether the break is known here already or not: the second time it is.
    monkeypatch.setattr(module, "RETRY_S", 0.0)
    found = [await keeper.get("x") for _ in range(2)]
    assert found[1] == b"x"


async def test_a_node_that_is_gone_is_left_alone_for_a_while(
    borrower: Transport, keeper: RemoteKeeper
) -> None:
    dialled = 0

    class Counting:
        def dial_memory(self, address: Address, *, expected: NodeId) -> Awaitable[MemoryLink]:
            nonlocal dialled
            dialled += 1
            return borrower.dial_memory(address, expected=expected)

    async with open_lender_node(borrower.identity.node_id) as lender:
        keeper.open(Counting())
        keeper.note(lender.here)
        assert await keeper.put("x", b"x")
    assert [await keeper.get("x") for _ in range(5)] == [None] * 5
    assert not await keeper.put("y", b"y")
    assert dialled <= 3


async def test_the_gateways_word_may_come_late(
    borrower: Transport, keeper: RemoteKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EARLY_S", 0.01)
    monkeypatch.setattr(module, "EARLY_TRIES", 1000)
    async with asyncio.timeout(30), open_lender_node(NOBODY) as lender, asyncio.TaskGroup() as ts:
        keeper.note(lender.here)
        putting = ts.create_task(keeper.put("x", b"x"))
        await asyncio.sleep(0.05)
        assert not putting.done()
        lender.host.note(Borrower(borrower.identity.node_id, Address()))
        assert await putting


async def test_who_says_nothing_is_given_up(
    borrower: Transport, keeper: RemoteKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_lane, "STEP_S", 0.05)

    class Silent:
        def on_message(self, _message: object) -> None:
            pass

        def on_closed(self, _reason: object) -> None:
            pass

    other = Identity.generate()
    async with (
        asyncio.timeout(30),
        open_transport(other, way="tls") as transport,
        transport.listen(
            LOOPBACK, 0, Takers(lambda *_: None, on_memory=lambda link: link.start(Silent()))
        ) as listener,
    ):
        keeper.note(MemoryHere(other.node_id, Address(HostPort(LOOPBACK, listener.port)), 1 << 30))
        assert not await keeper.put("x", b"x")


async def test_nothing_takes_longer_than_the_limit(
    keeper: RemoteKeeper, lender: Lender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LIMIT_S", 0.0)
    keeper.note(lender.here)
    assert not await keeper.put("x", b"x")


async def test_more_places_than_are_remembered(
    keeper: RemoteKeeper, lender: Lender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOBS_MAX", 2)
    monkeypatch.setattr(module, "LENDERS_MAX", 1)
    keeper.note(lender.here)
    keeper.note(MemoryHere(NOBODY, Address(), 1 << 30))
    assert keeper.lenders == [lender.key]
    for name in "abc":
        assert await keeper.put(name, b"x")
    assert [await keeper.get(name) for name in "abc"] == [None, b"x", b"x"]


async def test_of_two_of_one_name_that_are_put_at_once_one_counts(
    keeper: RemoteKeeper, lender: Lender
) -> None:
    keeper.note(lender.here)
    async with asyncio.TaskGroup() as tasks:
        for blob in (b"a" * 1000, b"b" * 500):
            tasks.create_task(keeper.put("x", blob))
    assert await keeper.get("x") == b"b" * 500
    [place] = keeper._places.values()
    assert place.lender.placed_bytes == 500
    assert lender.host.store.blobs == 1
