"""The lending side of memory links, over real sockets: what is done, and what ends a link."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from tests.support.memory_nodes import LOOPBACK, Lender, dial_hand, open_lender_node
from tests.support.rings import wait_until

from atoll.domain.address import Address, HostPort
from atoll.domain.ids import NodeId
from atoll.domain.lent_memory import (
    PART_BYTES,
    PARTS_AHEAD_MAX,
    AskPart,
    BlobDropped,
    BlobHere,
    BlobKept,
    BlobPart,
    Borrower,
    BorrowerGone,
    DropBlob,
    GetBlob,
    MemoryMessage,
    NoBlob,
    NotKept,
    PartTaken,
    PutBlob,
    Room,
)
from atoll.net.identity import Identity
from atoll.net.link import NotWelcome
from atoll.net.transport import Transport, open_transport
from atoll.node import memory_host as module
from atoll.node.blob_store import BlobStore
from atoll.node.memory_host import MemoryHost

pytestmark = pytest.mark.network


@pytest.fixture
async def anna() -> AsyncIterator[Transport]:
    async with open_transport(Identity.generate(), way="tls") as transport:
        yield transport


@pytest.fixture
async def ben() -> AsyncIterator[Transport]:
    async with open_transport(Identity.generate(), way="tls") as transport:
        yield transport


@pytest.fixture
async def lender(anna: Transport) -> AsyncIterator[Lender]:
    """It knows `anna`, as if she were its gateway."""
    async with asyncio.timeout(30), open_lender_node(anna.identity.node_id) as opened:
        yield opened


async def test_put_get_and_drop(anna: Transport, lender: Lender) -> None:
    hand = await dial_hand(anna, lender)
    data = bytes(range(256)) * (PART_BYTES // 256) + b"the end"
    assert await hand.ask(GetBlob("x")) == NoBlob()
    assert await hand.ask(PutBlob("x", len(data))) == Room()
    assert await hand.ask(BlobPart(data[:PART_BYTES])) == PartTaken()
    assert await hand.ask(BlobPart(data[PART_BYTES:])) == BlobKept()
    assert await hand.ask(GetBlob("x")) == BlobHere(len(data))
    assert await hand.ask(AskPart(1)) == BlobPart(b"the end")
    assert await hand.ask(AskPart(0)) == BlobPart(data[:PART_BYTES])
    await wait_until(lambda: lender.said, what="a report")
    assert lender.said[-1].blobs == 1
    assert lender.said[-1].used_bytes > len(data)
    assert await hand.ask(DropBlob("x")) == BlobDropped()
    assert await hand.ask(AskPart(0)) == NoBlob()
    assert await hand.ask(GetBlob("x")) == NoBlob()
    assert await hand.ask(DropBlob("x")) == BlobDropped()
    assert lender.host.store.used_bytes == 0


async def test_only_who_was_named_is_let_in(
    anna: Transport, ben: Transport, lender: Lender
) -> None:
    with pytest.raises(NotWelcome, match="did not name you"):
        await dial_hand(ben, lender)
    lender.name(ben)
    hers, his = await dial_hand(anna, lender), await dial_hand(ben, lender)
    assert await hers.ask(PutBlob("x", 5)) == Room()
    assert await hers.ask(BlobPart(b"annas")) == BlobKept()
    # He neither sees it nor harms it.
    assert await his.ask(GetBlob("x")) == NoBlob()
    assert await his.ask(DropBlob("x")) == BlobDropped()
    assert await his.ask(PutBlob("x", 4)) == Room()
    assert await his.ask(BlobPart(b"bens")) == BlobKept()
    assert await hers.ask(GetBlob("x")) == BlobHere(5)
    assert await hers.ask(AskPart(0)) == BlobPart(b"annas")
    # The gateway takes its word back.
    lender.host.note(BorrowerGone(ben.identity.node_id))
    assert "took back" in str(await his.ended)
    with pytest.raises(NotWelcome):
        await dial_hand(ben, lender)
    # Its own place nobody takes away.
    lender.host.note(BorrowerGone(anna.identity.node_id))
    assert await hers.ask(GetBlob("x")) == BlobHere(5)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ((BlobPart(b"x"),), "a part of no blob"),
        ((PutBlob("x", 5), BlobPart(b"four")), "part 0 of 4 bytes"),
        ((PutBlob("x", 5), BlobPart(b"sixsix")), "part 0 of 6 bytes"),
        ((PutBlob("x", PART_BYTES + 1), BlobPart(b"short")), "part 0 of 5 bytes"),
        ((PutBlob("x", 1), BlobPart(b"x"), BlobPart(b"x")), "a part of no blob"),
        ((PutBlob("x", 5), GetBlob("x")), "a GetBlob amid the parts of a blob"),
        ((PutBlob("x", 5), PutBlob("y", 5)), "a PutBlob amid the parts of a blob"),
        ((PutBlob("x", 1), BlobPart(b"x"), GetBlob("x"), AskPart(1)), "part 1 of a blob of 1"),
        ((Room(),), "a borrower may not send Room"),
        ((BlobKept(),), "a borrower may not send BlobKept"),
        ((PutBlob("\n", 1),), "a name that is none"),
    ],
)
async def test_what_is_out_of_order_ends_the_link(
    anna: Transport, lender: Lender, said: tuple[MemoryMessage, ...], problem: str
) -> None:
    hand = await dial_hand(anna, lender)
    for message in said:
        hand.link.send(message)
    assert problem in str(await hand.ended)
    # The host goes on, and keeps nothing that did not become whole.
    again = await dial_hand(anna, lender)
    assert await again.ask(DropBlob("x")) == BlobDropped()
    assert lender.host.store.used_bytes == 0


async def test_what_is_not_kept_is_said_and_the_link_goes_on(
    anna: Transport, lender: Lender
) -> None:
    hand = await dial_hand(anna, lender)
    answer = await hand.ask(PutBlob("x", 1 << 32))
    assert answer == NotKept("there is no room for it")
    assert await hand.ask(GetBlob("x")) == NoBlob()
    # One that has to go while it comes: its other parts are passed over.
    other = await dial_hand(anna, lender)
    assert await hand.ask(PutBlob("slow", 3 * PART_BYTES)) == Room()
    assert await hand.ask(BlobPart(bytes(PART_BYTES))) == PartTaken()
    assert await other.ask(DropBlob("slow")) == BlobDropped()
    assert isinstance(await hand.ask(BlobPart(bytes(PART_BYTES))), NotKept)
    hand.link.send(BlobPart(bytes(PART_BYTES)))
    assert await hand.ask(GetBlob("slow")) == NoBlob()


async def test_parts_of_nothing_are_passed_over_only_so_long(
    anna: Transport, lender: Lender
) -> None:
    hand, other = await dial_hand(anna, lender), await dial_hand(anna, lender)
    assert await hand.ask(PutBlob("x", 40 * PART_BYTES // 4)) == Room()
    assert await other.ask(DropBlob("x")) == BlobDropped()
    assert isinstance(await hand.ask(BlobPart(bytes(PART_BYTES))), NotKept)
    for _ in range(PARTS_AHEAD_MAX + 1):
        hand.link.send(BlobPart(b"x"))
    assert "a part of no blob" in str(await hand.ended)


async def test_who_asks_and_does_not_read_is_ended(
    anna: Transport, lender: Lender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAITING_BYTES_MAX", -1)
    hand = await dial_hand(anna, lender)
    hand.link.send(GetBlob("x"))
    assert "more is asked for than is read" in str(await hand.ended)


async def test_two_links_of_one_borrower_are_served(anna: Transport, lender: Lender) -> None:
    hands = [await dial_hand(anna, lender) for _ in range(3)]
    assert "2 links of one borrower" in str(await hands[0].ended)
    for hand in hands[1:]:
        assert await hand.ask(GetBlob("x")) == NoBlob()


async def test_a_lost_borrowers_blobs_wait_for_it(
    anna: Transport, lender: Lender, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand = await dial_hand(anna, lender)
    await hand.ask(PutBlob("x", 1))
    assert await hand.ask(BlobPart(b"x")) == BlobKept()
    await hand.ask(PutBlob("half", 2))
    hand.link.close()
    await lender.links[0].wait_closed()
    await wait_until(lambda: lender.host.store.blobs == 1, what="the end of the half one")
    back = await dial_hand(anna, lender)
    assert await back.ask(GetBlob("x")) == BlobHere(1)
    # Once it is away for too long they go.
    monkeypatch.setattr(lender.host.store, "_lost_s", 0.0)
    back.link.close()
    await wait_until(lambda: lender.host.store.blobs == 0, what="the end of the blob")


async def test_too_many_borrowers_are_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BORROWERS_MAX", 2)
    gateway, one, two = (NodeId(c * 64) for c in "123")
    store = BlobStore(1 << 20)
    host = MemoryHost(store, gateway, send=lambda _lent: None)
    for peer in (one, two, one):
        host.note(Borrower(peer, Address()))
    host.authorise(one)
    assert store.share_bytes == 1 << 19
    with pytest.raises(Exception, match="did not name you"):
        host.authorise(two)


async def test_a_hidden_node_opens_its_router() -> None:
    @dataclass
    class Endpoint:
        punched: asyncio.Queue[NodeId] = field(default_factory=asyncio.Queue)

        async def punch(self, address: Address, *, expected: NodeId) -> None:
            assert address.quic
            self.punched.put_nowait(expected)

    endpoint = Endpoint()
    gateway, open_one, closed_one, by_tcp = (NodeId(c * 64) for c in "1234")
    host = MemoryHost(BlobStore(1 << 20), gateway, send=lambda _lent: None, endpoint=endpoint)
    there = Address(quic=(HostPort(LOOPBACK, 5),))
    host.note(Borrower(open_one, there))
    host.is_hidden = True
    host.note(Borrower(by_tcp, Address(HostPort(LOOPBACK, 5))))
    host.note(Borrower(closed_one, there))
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(host.run())
        assert await endpoint.punched.get() == closed_one
        assert endpoint.punched.empty()
        running.cancel()
