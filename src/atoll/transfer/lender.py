"""Lends shards: answers what borrowers ask over bulk links, within bounds.

Each link is served by a task of its own that reads one block after the other,
so a borrower that reads slowly waits for itself alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager

from atoll.domain.bulk import (
    ASKS_MAX,
    AskBlock,
    AskOutline,
    Block,
    BulkMessage,
    NotHere,
    Outline,
    ShardRange,
    piece_bytes_for,
)
from atoll.domain.errors import AtollError, LinkFault, ProtocolFault
from atoll.domain.ids import NodeId
from atoll.model.source import ByteSource
from atoll.net.link import SAME_VERSION, BulkLink
from atoll.net.tasks import background_tasks

log = logging.getLogger(__name__)

LOANS_MAX = 64
"""Bulk links that may stand at once; each holds a file open."""
LOANS_PER_PEER_MAX = 8
"""Of these, how many of one key."""

OpenShard = Callable[[NodeId, ShardRange], AbstractContextManager[ByteSource]]
"""Opens a shard for the node that asks; called in a thread.

Raises:
    AtollError: It is not here, or not for this node.
"""


class Lender:
    """Takes bulk links and serves them; made by `open_lender`.

    Args:
        open_shard: Who may have what, and where it is.
        tasks: Where its tasks live.
    """

    def __init__(self, open_shard: OpenShard, tasks: asyncio.TaskGroup) -> None:
        self._open_shard = open_shard
        self._tasks = tasks
        self._loans: dict[_Loan, asyncio.Task[None]] = {}
        self._by_peer: Counter[NodeId] = Counter()
        self._outlines: dict[ShardRange, Outline] = {}
        self._outlining = asyncio.Lock()
        self.lent_bytes = 0

    def on_bulk(self, link: BulkLink) -> None:
        """A link whose peer was let in stands."""
        peer = link.peer
        if len(self._loans) >= LOANS_MAX or self._by_peer[peer] >= LOANS_PER_PEER_MAX:
            link.close(LinkFault("too many shards are fetched from here", hint="try again shortly"))
            return
        loan = _Loan(self, link)
        self._by_peer[peer] += 1
        task = self._tasks.create_task(loan.run(), name=f"lend {peer[:8]}")
        self._loans[loan] = task
        task.add_done_callback(lambda _task: self._ended(loan, peer))

    def open_shard(self, peer: NodeId, shard: ShardRange) -> AbstractContextManager[ByteSource]:
        """As the caller of `open_lender` said."""
        return self._open_shard(peer, shard)

    async def outline(self, shard: ShardRange, source: ByteSource) -> Outline:
        """The hashes of a shard's pieces; the first time this reads all of it."""
        async with self._outlining:
            if shard not in self._outlines:
                self._outlines[shard] = await asyncio.to_thread(outline_of, source)
            return self._outlines[shard]

    def close(self) -> None:
        """End all loans."""
        for task in self._loans.values():
            task.cancel()

    def _ended(self, loan: _Loan, peer: NodeId) -> None:
        del self._loans[loan]
        self._by_peer[peer] -= 1
        if not self._by_peer[peer]:
            del self._by_peer[peer]


@asynccontextmanager
async def open_lender(open_shard: OpenShard) -> AsyncIterator[Lender]:
    """A lender while the context lasts; leaving it ends all loans."""
    async with background_tasks() as tasks:
        lender = Lender(open_shard, tasks)
        try:
            yield lender
        finally:
            lender.close()


def outline_of(source: ByteSource) -> Outline:
    """What a shard's file is made of; reads it once."""
    size_bytes = source.size_bytes
    piece_bytes = piece_bytes_for(size_bytes)
    hashes = [
        hashlib.sha256(source.read(offset, piece_bytes)).digest()
        for offset in range(0, size_bytes, piece_bytes)
    ]
    return Outline(size_bytes, piece_bytes, b"".join(hashes))


class _Loan:
    """One borrower's link."""

    def __init__(self, lender: Lender, link: BulkLink) -> None:
        self._lender = lender
        self._link = link
        # One more place, so that the end always fits.
        self._asks: asyncio.Queue[AskOutline | AskBlock | None] = asyncio.Queue(ASKS_MAX + 1)
        self._open: tuple[ShardRange, ByteSource] | None = None
        self._files = ExitStack()
        link.start(self)

    def on_message(self, message: BulkMessage) -> None:
        """Queue an ask, or end the link that asks more than it may."""
        if not isinstance(message, AskOutline | AskBlock):
            raise ProtocolFault(
                f"a borrower may not send {type(message).__name__}", hint=SAME_VERSION
            )
        if self._asks.qsize() >= ASKS_MAX:
            raise LinkFault(f"more than {ASKS_MAX} asks wait for their answers")
        self._asks.put_nowait(message)

    def on_closed(self, reason: LinkFault | None) -> None:
        """The borrower is gone: what it still asked for is not read."""
        log.info("lender.ended peer=%s reason=%s", self._link.peer, reason)
        while not self._asks.empty():
            self._asks.get_nowait()
        self._asks.put_nowait(None)

    async def run(self) -> None:
        """Answer until the link is gone."""
        try:
            while (ask := await self._asks.get()) is not None:
                self._link.send(await self._answer(ask))
        finally:
            self._link.close()
            self._files.close()

    async def _answer(self, ask: AskOutline | AskBlock) -> BulkMessage:
        try:
            source = await asyncio.to_thread(self._source, ask.shard)
            if isinstance(ask, AskOutline):
                return await self._lender.outline(ask.shard, source)
            data = await asyncio.to_thread(source.read, ask.offset, ask.size)
        except AtollError as error:
            log.info("lender.not_here peer=%s problem=%s", self._link.peer, error.problem)
            # Hints may name folders, which are the owner's business.
            return NotHere(error.problem)
        except OSError as error:
            return NotHere(f"the shard cannot be read: {error.strerror or type(error).__name__}")
        self._lender.lent_bytes += len(data)
        return Block(ask.offset, data)

    def _source(self, shard: ShardRange) -> ByteSource:
        if self._open is None or self._open[0] != shard:
            self._open = None
            self._files.close()
            source = self._files.enter_context(self._lender.open_shard(self._link.peer, shard))
            self._open = (shard, source)
        return self._open[1]
