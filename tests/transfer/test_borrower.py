"""Fetching pieces over real links, from lenders that are honest, broken or lying."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from tests.support.lenders import Post, open_post, serve_bulk

from atoll.domain.bulk import AskBlock, AskOutline, Block, BulkMessage, NotHere, Outline, ShardRange
from atoll.domain.errors import LinkFault, ProtocolFault, PullFailed
from atoll.net.link import BulkLink
from atoll.net.transport import Way
from atoll.transfer import borrower as module
from atoll.transfer.borrower import Borrower, Holder
from atoll.transfer.holdings import Holdings
from atoll.transfer.lender import outline_of

pytestmark = pytest.mark.network
MIB = 1 << 20


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.001)


@pytest.fixture
def whole(holdings: Holdings, shard: ShardRange) -> bytes:
    with holdings.opened(shard) as source:
        return source.read(0, source.size_bytes)


class Liar:
    """Answers by hand, with what the test wants."""

    def __init__(self, answer: Callable[[BulkMessage], BulkMessage | None]) -> None:
        self.answer = answer
        self.asked = 0
        self.links: list[BulkLink] = []

    def on_bulk(self, link: BulkLink) -> None:
        liar = self

        class Handler:
            def on_message(self, message: BulkMessage) -> None:
                liar.asked += 1
                answer = liar.answer(message)
                if answer is None:
                    link.close(LinkFault("out of order"))
                else:
                    link.send(answer)

            def on_closed(self, _reason: LinkFault | None) -> None:
                liar.links.remove(link)

        self.links.append(link)
        link.start(Handler())


@asynccontextmanager
async def lying(
    answer: Callable[[BulkMessage], BulkMessage | None], name: str = "liar"
) -> AsyncIterator[tuple[Holder, Liar]]:
    liar = Liar(answer)
    async with serve_bulk(liar.on_bulk) as (identity, address, borrower):
        yield (
            Holder(name, lambda: borrower.dial_bulk(address, expected=identity.node_id)),
            liar,
        )


async def fetch(
    shard: ShardRange, path: Path, *holders: Holder, room: Callable[[int], None] = lambda _n: None
) -> Borrower:
    path.touch()
    with path.open("r+b") as out:
        borrower = Borrower(shard, out, progress=lambda _here, _all: None, room=room)
        await borrower.run(holders)
    return borrower


@asynccontextmanager
async def honest(holdings: Holdings, way: Way = "tls") -> AsyncIterator[Post]:
    async with open_post(lambda _peer, wanted: holdings.opened(wanted), way) as post:
        yield post


async def test_all_of_it_and_no_byte_more(
    holdings: Holdings, shard: ShardRange, whole: bytes, way: Way, tmp_path: Path
) -> None:
    async with asyncio.timeout(30), honest(holdings, way) as post:
        borrower = await fetch(shard, tmp_path / "part", post.holder())
        assert (tmp_path / "part").read_bytes() == whole
        assert borrower.fetched_bytes == post.lender.lent_bytes == len(whole)


async def test_pieces_that_are_here_are_not_fetched(
    holdings: Holdings, shard: ShardRange, whole: bytes, tmp_path: Path
) -> None:
    part = tmp_path / "part"
    damaged = bytearray(whole[: 2 * MIB + 77])
    damaged[5] ^= 1
    part.write_bytes(damaged + b"rubbish" * MIB)
    async with asyncio.timeout(30), honest(holdings) as post:
        borrower = await fetch(shard, part, post.holder())
        assert part.read_bytes() == whole
        assert borrower.fetched_bytes == len(whole) - MIB
        again = await fetch(shard, part, post.holder())
        assert again.fetched_bytes == 0


async def test_several_holders_share_the_work(
    holdings: Holdings, shard: ShardRange, whole: bytes, tmp_path: Path
) -> None:
    async with asyncio.timeout(30), honest(holdings) as one, honest(holdings) as other:
        borrower = await fetch(shard, tmp_path / "part", one.holder(), other.holder("node-2"))
        assert (tmp_path / "part").read_bytes() == whole
        assert one.lender.lent_bytes + other.lender.lent_bytes == borrower.fetched_bytes
        assert other.lender.lent_bytes > 0


async def test_a_liar_is_found_out_by_the_hashes(
    holdings: Holdings, shard: ShardRange, whole: bytes, tmp_path: Path
) -> None:
    def answer(message: BulkMessage) -> BulkMessage:
        assert isinstance(message, AskBlock)
        data = bytearray(whole[message.offset :][: message.size])
        data[0] ^= 1
        return Block(message.offset, bytes(data))

    async with asyncio.timeout(30), honest(holdings) as post, lying(answer) as (holder, liar):
        borrower = await fetch(shard, tmp_path / "part", post.holder(), holder)
        assert (tmp_path / "part").read_bytes() == whole
        assert liar.asked
        assert len(whole) < borrower.fetched_bytes < 3 * len(whole)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (lambda _ask: None, "out of order"),
        (lambda _ask: NotHere("lost\x1b it"), "lost? it"),
        (lambda ask: Block(ask.offset + 1, b"x"), "another block than asked for"),
        (lambda ask: Block(ask.offset, b"x"), "a block of another size"),
        (lambda _ask: Outline(1, MIB, bytes(32)), "another block than asked for"),
    ],
)
async def test_a_gateway_that_breaks_off_or_talks_nonsense(
    whole: bytes,
    shard: ShardRange,
    tmp_path: Path,
    answer: Callable[[BulkMessage], BulkMessage | None],
    problem: str,
) -> None:
    class Source:
        size_bytes = len(whole)

        def read(self, offset: int, size: int) -> bytes:
            return whole[offset : offset + size]

    outline = outline_of(Source())

    def both(message: BulkMessage) -> BulkMessage | None:
        return outline if isinstance(message, AskOutline) else answer(message)

    async with asyncio.timeout(30), lying(both) as (holder, _liar):
        with pytest.raises(PullFailed, match="the shard cannot be fetched") as caught:
            await fetch(shard, tmp_path / "part", holder)
        assert problem in caught.value.problem


async def test_a_gateway_without_an_outline(shard: ShardRange, tmp_path: Path) -> None:
    async with asyncio.timeout(30):
        async with lying(lambda _ask: NotHere("no stage of this ring")) as (holder, _):
            with pytest.raises(PullFailed, match="no stage of this ring"):
                await fetch(shard, tmp_path / "part", holder)
        async with lying(lambda _ask: Block(0, b"x")) as (holder, _):
            with pytest.raises(ProtocolFault, match="no outline"):
                await fetch(shard, tmp_path / "part", holder)


async def test_answers_that_nobody_asked_for(shard: ShardRange, tmp_path: Path) -> None:
    async with asyncio.timeout(30), AsyncExitStack() as stack:

        def on_bulk(link: BulkLink) -> None:
            class Handler:
                def on_message(self, _message: BulkMessage) -> None:
                    for _ in range(3):
                        link.send(NotHere("no"))

                def on_closed(self, _reason: LinkFault | None) -> None:
                    pass

            link.send(NotHere("nobody asked"))
            link.start(Handler())

        identity, address, borrower = await stack.enter_async_context(serve_bulk(on_bulk))
        holder = Holder("x", lambda: borrower.dial_bulk(address, expected=identity.node_id))
        with pytest.raises((LinkFault, PullFailed), match="no"):
            await fetch(shard, tmp_path / "part", holder)


async def test_a_peer_that_dies_leaves_its_pieces_to_others(
    holdings: Holdings, shard: ShardRange, whole: bytes, tmp_path: Path
) -> None:
    served = 0

    def dying(message: BulkMessage) -> BulkMessage | None:
        nonlocal served
        served += 1
        assert isinstance(message, AskBlock)
        if served > 2:
            return None
        return Block(message.offset, whole[message.offset :][: message.size])

    async with asyncio.timeout(30), honest(holdings) as post, lying(dying) as (holder, _):
        await fetch(shard, tmp_path / "part", post.holder(), holder)
        assert (tmp_path / "part").read_bytes() == whole


async def test_a_peer_that_cannot_be_reached(
    holdings: Holdings, shard: ShardRange, whole: bytes, tmp_path: Path
) -> None:
    async def nobody() -> BulkLink:
        raise LinkFault("nobody listens there")

    async with asyncio.timeout(30), honest(holdings) as post:
        await fetch(shard, tmp_path / "part", post.holder(), Holder("gone", nobody))
        assert (tmp_path / "part").read_bytes() == whole


async def test_a_slow_holder_is_not_waited_for(
    holdings: Holdings,
    shard: ShardRange,
    whole: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 0.3)

    class Silent:
        def on_message(self, _message: BulkMessage) -> None:
            pass

        def on_closed(self, _reason: LinkFault | None) -> None:
            pass

    async with (
        asyncio.timeout(30),
        honest(holdings) as post,
        serve_bulk(lambda link: link.start(Silent())) as (identity, address, borrower),
    ):
        slow = Holder("slow", lambda: borrower.dial_bulk(address, expected=identity.node_id))
        await fetch(shard, tmp_path / "part", post.holder(), slow)
        assert (tmp_path / "part").read_bytes() == whole


async def test_no_room(holdings: Holdings, shard: ShardRange, whole: bytes, tmp_path: Path) -> None:
    asked: list[int] = []

    def full(size: int) -> None:
        asked.append(size)
        raise PullFailed("no room")

    part = tmp_path / "part"
    part.write_bytes(whole[:MIB])
    async with asyncio.timeout(30), honest(holdings) as post:
        with pytest.raises(PullFailed, match="no room"):
            await fetch(shard, part, post.holder(), room=full)
    assert asked == [len(whole) - MIB]
    assert hashlib.sha256(part.read_bytes()).digest() == hashlib.sha256(whole[:MIB]).digest()
