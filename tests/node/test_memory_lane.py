"""The borrowing side of one memory link, against a real host and against odd ones."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from tests.support.memory_nodes import LOOPBACK, Lender, open_lender_node

from atoll.domain.address import Address, HostPort
from atoll.domain.errors import LinkFault
from atoll.domain.lent_memory import (
    PART_BYTES,
    AskPart,
    BlobHere,
    BlobKept,
    BlobPart,
    GetBlob,
    MemoryMessage,
    NoBlob,
    NotKept,
    PartTaken,
    PutBlob,
    Room,
)
from atoll.net.identity import Identity
from atoll.net.link import MemoryLink
from atoll.net.listener import Takers
from atoll.net.transport import Transport, Way, open_transport
from atoll.node import memory_lane as module
from atoll.node.memory_lane import MemoryLane

pytestmark = pytest.mark.network


@asynccontextmanager
async def lane_to_host(way: Way = "tls") -> AsyncIterator[tuple[MemoryLane, Lender]]:
    async with (
        asyncio.timeout(30),
        open_transport(Identity.generate(), way=way, host=LOOPBACK) as borrower,
        open_lender_node(borrower.identity.node_id, way=way, lent_bytes=32 << 20) as lender,
    ):
        link = await borrower.dial_memory(lender.address, expected=lender.key)
        lane = MemoryLane(link)
        try:
            yield lane, lender
        finally:
            lane.close()
            await link.wait_closed()


@pytest.mark.parametrize("way", ["tls", "quic"])
async def test_byte_for_byte(way: Way) -> None:
    if way == "quic":
        pytest.importorskip("iroh", reason="no wheel for this system")
    blobs = {str(size): os.urandom(size) for size in (1, PART_BYTES, 21 * PART_BYTES + 7)}
    async with lane_to_host(way) as (lane, _):
        for name, blob in blobs.items():
            assert await lane.put(name, blob)
        for name, blob in blobs.items():
            assert await lane.get(name) == blob
        await lane.drop("1")
        assert await lane.get("1") is None
        assert await lane.get("nothing") is None


async def test_no_room_is_an_answer() -> None:
    async with lane_to_host() as (lane, _):
        assert not await lane.put("x", bytes(33 << 20))
        assert await lane.put("x", b"small")
        assert await lane.get("x") == b"small"


async def test_one_thing_after_the_other() -> None:
    async with lane_to_host() as (lane, _), asyncio.TaskGroup() as tasks:
        puts = [tasks.create_task(lane.put(str(n), bytes([n]) * (n << 18))) for n in range(1, 9)]
        assert all([await put for put in puts])
        gets = [tasks.create_task(lane.get(str(n))) for n in range(1, 9)]
        assert [await get for get in gets] == [bytes([n]) * (n << 18) for n in range(1, 9)]


class Odd:
    """A lender that answers as it is told."""

    def __init__(self, link: MemoryLink, answer: Callable[[MemoryMessage], list[MemoryMessage]]):
        self._link, self._answer = link, answer
        link.start(self)

    def on_message(self, message: MemoryMessage) -> None:
        for one in self._answer(message):
            self._link.send(one)

    def on_closed(self, _reason: LinkFault | None) -> None:
        pass


@asynccontextmanager
async def lane_to_odd(
    answer: Callable[[MemoryMessage], list[MemoryMessage]],
) -> AsyncIterator[tuple[MemoryLane, MemoryLink]]:
    identity = Identity.generate()
    borrower: Transport
    async with (
        asyncio.timeout(30),
        open_transport(Identity.generate(), way="tls") as borrower,
        open_transport(identity, way="tls") as other,
        other.listen(
            LOOPBACK, 0, Takers(lambda *_: None, on_memory=lambda link: odd(link, answer))
        ) as listener,
    ):
        address = Address(HostPort(LOOPBACK, listener.port))
        link = await borrower.dial_memory(address, expected=identity.node_id)
        yield MemoryLane(link), link
        link.close()
        await link.wait_closed()


def odd(link: MemoryLink, answer: Callable[[MemoryMessage], list[MemoryMessage]]) -> None:
    Odd(link, answer)


def by_type(**answers: list[MemoryMessage]) -> Callable[[MemoryMessage], list[MemoryMessage]]:
    return lambda message: answers.get(type(message).__name__, [])


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ({"GetBlob": [Room()]}, "nobody asked for a Room"),
        ({"GetBlob": [BlobHere(9)], "AskPart": [BlobPart(b"8 bytes.")]}, "a part of another"),
        ({"GetBlob": [BlobHere(9)], "AskPart": [BlobKept()]}, "nobody asked for a BlobKept"),
        ({"GetBlob": [NoBlob()] * 40}, ""),
    ],
)
async def test_answers_out_of_order_end_a_get(
    answers: dict[str, list[MemoryMessage]], problem: str
) -> None:
    async with lane_to_odd(by_type(**answers)) as (lane, link):
        if problem:
            with pytest.raises(LinkFault, match=problem):
                await lane.get("x")
        else:
            await lane.get("x")
            # More answers than questions end it too.
            assert await link.wait_closed() is not None
        assert lane.is_closed
        with pytest.raises(LinkFault, match="gone"):
            await lane.get("x")


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ({"PutBlob": [BlobKept()]}, "nobody asked for a BlobKept"),
        ({"PutBlob": [Room()], "BlobPart": [PartTaken()]}, "nobody asked for a PartTaken"),
        ({"PutBlob": [Room()], "BlobPart": [NoBlob()]}, "nobody asked for a NoBlob"),
    ],
)
async def test_answers_out_of_order_end_a_put(
    answers: dict[str, list[MemoryMessage]], problem: str
) -> None:
    async with lane_to_odd(by_type(**answers)) as (lane, _):
        with pytest.raises(LinkFault, match=problem):
            await lane.put("x", b"x")
        assert lane.is_closed


async def test_a_blob_may_go_amid_a_put_or_get() -> None:
    def answer(message: MemoryMessage) -> list[MemoryMessage]:
        match message:
            case PutBlob():
                return [Room()]
            case BlobPart():
                return [NotKept("it had to make room")] if next(parts) == 1 else []
            case GetBlob():
                return [BlobHere(5 * PART_BYTES)]
            case AskPart(index):
                return [BlobPart(bytes(PART_BYTES)) if index < 2 else NoBlob()]
        return []

    parts = iter(range(100))
    next(parts)
    async with lane_to_odd(answer) as (lane, _):
        assert not await lane.put("x", bytes(5 * PART_BYTES))
        assert await lane.get("x") is None
        assert not lane.is_closed


async def test_silence_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STEP_S", 0.05)
    async with lane_to_odd(lambda _message: []) as (lane, _):
        with pytest.raises(LinkFault, match="too slow"):
            await lane.get("x")
        # A late answer cannot be taken for that to something else.
        assert lane.is_closed


async def test_a_trickle_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MORE_S", 0.05)
    monkeypatch.setattr(module, "SLOW_BYTES_PER_S", 1e12)
    async with lane_to_odd(by_type(PutBlob=[Room()])) as (lane, _):
        with pytest.raises(LinkFault, match="too slow"):
            await lane.put("x", b"x")
        assert lane.is_closed


async def test_who_does_not_wait_ends_the_link() -> None:
    async with lane_to_odd(lambda _message: []) as (lane, _):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await lane.get("x")
        assert lane.is_closed
