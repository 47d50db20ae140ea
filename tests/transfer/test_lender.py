"""A lender and what borrowers may do to it, over real links."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from tests.support.lenders import open_post
from tests.support.rings import wait_until

from atoll.domain.bulk import (
    ASKS_MAX,
    AskBlock,
    AskOutline,
    Block,
    BulkMessage,
    NotHere,
    Outline,
    ShardRange,
)
from atoll.domain.errors import BadRequest, LinkFault
from atoll.domain.ids import NodeId
from atoll.model.source import ByteSource
from atoll.net.link import BulkLink
from atoll.net.transport import Way
from atoll.transfer.holdings import Holdings
from atoll.transfer.lender import LOANS_PER_PEER_MAX, outline_of

pytestmark = pytest.mark.network


class Heard:
    """A bulk handler that keeps all it is told."""

    def __init__(self, link: BulkLink) -> None:
        self.link = link
        self.messages: asyncio.Queue[BulkMessage] = asyncio.Queue()
        self.ended: asyncio.Future[LinkFault | None] = asyncio.get_running_loop().create_future()
        link.start(self)

    def on_message(self, message: BulkMessage) -> None:
        self.messages.put_nowait(message)

    def on_closed(self, reason: LinkFault | None) -> None:
        self.ended.set_result(reason)

    async def answer(self, ask: BulkMessage) -> BulkMessage:
        assert self.link.send(ask)
        return await self.messages.get()


async def test_outline_and_blocks(holdings: Holdings, shard: ShardRange, way: Way) -> None:
    with holdings.opened(shard) as source:
        whole, outline = source.read(0, source.size_bytes), outline_of(source)
    async with (
        asyncio.timeout(20),
        open_post(lambda _peer, wanted: holdings.opened(wanted), way) as post,
    ):
        heard = Heard(await post.dial())
        assert await heard.answer(AskOutline(shard)) == outline
        for offset, size in ((0, 100), (1000, 262_144), (len(whole) - 7, 200), (len(whole), 1)):
            answer = await heard.answer(AskBlock(shard, offset, size))
            assert answer == Block(offset, whole[offset : offset + size])
        assert post.lender.lent_bytes == 100 + 262_144 + 7
        heard.link.close()


async def test_answers_come_in_the_order_of_the_asks(holdings: Holdings, shard: ShardRange) -> None:
    async with (
        asyncio.timeout(20),
        open_post(lambda _peer, wanted: holdings.opened(wanted)) as post,
    ):
        heard = Heard(await post.dial())
        offsets = [i * 1000 for i in range(ASKS_MAX)]
        for offset in offsets:
            heard.link.send(AskBlock(shard, offset, 1000))
        answers = [await heard.messages.get() for _ in offsets]
        assert [a.offset for a in answers if isinstance(a, Block)] == offsets
        heard.link.close()


async def test_what_is_not_here_ends_no_link(holdings: Holdings, shard: ShardRange) -> None:
    def choosy(_peer: NodeId, wanted: ShardRange) -> AbstractContextManager[ByteSource]:
        if wanted.first == 2:
            raise BadRequest("layers 2 to 5 are no stage of this ring", hint="in /a/folder")
        return holdings.opened(wanted)

    async with asyncio.timeout(20), open_post(choosy) as post:
        heard = Heard(await post.dial())
        wrong = ShardRange(shard.model, 2, 5)
        answer = await heard.answer(AskOutline(wrong))
        # Hints may name folders of the lender's.
        assert answer == NotHere("layers 2 to 5 are no stage of this ring")
        assert isinstance(await heard.answer(AskBlock(wrong, 0, 5)), NotHere)
        assert isinstance(await heard.answer(AskOutline(shard)), Outline)
        heard.link.close()


async def test_a_disk_that_fails(shard: ShardRange) -> None:
    class Failing:
        size_bytes = 10

        def read(self, _offset: int, _size: int) -> bytes:
            raise OSError(5, "Input/output error")

    @contextmanager
    def broken(_peer: NodeId, _shard: ShardRange) -> Iterator[ByteSource]:
        yield Failing()

    async with asyncio.timeout(20), open_post(broken) as post:
        heard = Heard(await post.dial())
        answer = await heard.answer(AskBlock(shard, 0, 5))
        assert answer == NotHere("the shard cannot be read: Input/output error")
        heard.link.close()


async def test_one_borrower_opens_no_thousand_links(holdings: Holdings, shard: ShardRange) -> None:
    async with (
        asyncio.timeout(20),
        open_post(lambda _peer, wanted: holdings.opened(wanted)) as post,
    ):
        heard = [Heard(await post.dial()) for _ in range(LOANS_PER_PEER_MAX + 2)]
        await wait_until(lambda: sum(one.ended.done() for one in heard) == 2)
        [reason, _] = [one.ended.result() for one in heard if one.ended.done()]
        assert "too many shards are fetched from here" in str(reason)
        standing = [one for one in heard if not one.ended.done()]
        assert isinstance(await standing[-1].answer(AskOutline(shard)), Outline)
        standing[0].link.close()
        await wait_until(standing[0].ended.done)
        again = Heard(await post.dial())
        assert isinstance(await again.answer(AskOutline(shard)), Outline)
        for one in (*standing, again):
            one.link.close()


async def test_who_asks_more_than_it_may_is_sent_away(
    holdings: Holdings, shard: ShardRange
) -> None:
    async with (
        asyncio.timeout(20),
        open_post(lambda _peer, wanted: holdings.opened(wanted)) as post,
    ):
        heard = Heard(await post.dial())
        for _ in range(100):
            heard.link.send(AskBlock(shard, 0, 1))
        assert "more than 16 asks wait" in str(await heard.ended)


async def test_a_borrower_only_asks(holdings: Holdings) -> None:
    async with (
        asyncio.timeout(20),
        open_post(lambda _peer, wanted: holdings.opened(wanted)) as post,
    ):
        heard = Heard(await post.dial())
        heard.link.send(Block(0, b"take this"))
        assert "a borrower may not send Block" in str(await heard.ended)


async def test_leaving_ends_loans_that_are_under_way(
    holdings: Holdings, shard: ShardRange, way: Way
) -> None:
    async with asyncio.timeout(20):
        async with open_post(lambda _peer, wanted: holdings.opened(wanted), way) as post:
            heard = Heard(await post.dial())
            for _ in range(ASKS_MAX):
                heard.link.send(AskBlock(shard, 0, 262_144))
            await heard.messages.get()
        await heard.ended
