"""Holds blobs for the gateway and for those that it names: the lending side of memory links.

Each message is answered at once, from the loop's read: all is in memory. On one link
one thing is done at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import NoReturn, Protocol

from atoll.domain.address import Address
from atoll.domain.errors import LinkFault, ProtocolFault
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
    Lent,
    MemoryMessage,
    NoBlob,
    NotKept,
    PartTaken,
    PutBlob,
    Room,
)
from atoll.net.link import SAME_VERSION, MemoryLink
from atoll.node.blob_store import Blob, BlobStore

log = logging.getLogger(__name__)

TICK_S = 1.0
"""How often what is due goes, and the gateway is told how much is used."""
BORROWERS_MAX = 1024
LINKS_PER_PEER_MAX = 2
"""One for what a borrower puts and one for what it gets, which is waited for."""
PUNCHES_MAX = 64
WAITING_BYTES_MAX = 4 * PARTS_AHEAD_MAX * PART_BYTES
"""Answers that may wait to be written: a borrower that asks faster than it reads is ended.
Several times what may be asked ahead, as QUIC keeps what was read but not yet acknowledged."""


class Endpoint(Protocol):
    """What is needed of a UDP endpoint."""

    def punch(self, address: Address, *, expected: NodeId) -> Awaitable[None]:
        """Send to the holder of a key, so that our router lets in what comes from there."""


class MemoryHost:
    """All borrowers of this node.

    Args:
        store: Where their blobs are.
        gateway: It may always borrow.
        send: Takes what the gateway is told.
        endpoint: What opens our router for borrowers where it is closed; None: nothing.
    """

    def __init__(
        self,
        store: BlobStore,
        gateway: NodeId,
        *,
        send: Callable[[Lent], None],
        endpoint: Endpoint | None = None,
    ) -> None:
        self._store = store
        self._gateway = gateway
        self._send = send
        self._endpoint = endpoint
        self._borrowers: set[NodeId] = {gateway}
        self._links: dict[NodeId, list[_Loan]] = {}
        self._punches: asyncio.Queue[Borrower] = asyncio.Queue(PUNCHES_MAX)
        self.is_hidden = False
        """Whether nobody gets through to this node before it has sent something there."""
        store.name(gateway)

    @property
    def store(self) -> BlobStore:
        """The blobs."""
        return self._store

    def note(self, message: Borrower | BorrowerGone) -> None:
        """The gateway names somebody, or takes that back."""
        peer = message.peer
        if isinstance(message, Borrower):
            if len(self._borrowers) >= BORROWERS_MAX and peer not in self._borrowers:
                log.warning("memory_host.too_many_borrowers peer=%s", peer)
                return
            self._borrowers.add(peer)
            self._store.name(peer)
            if self.is_hidden and message.address.quic and not self._punches.full():
                self._punches.put_nowait(message)
        elif peer != self._gateway:
            self._borrowers.discard(peer)
            self._store.unname(peer)
            for loan in list(self._links.get(peer, ())):
                loan.close(LinkFault("the gateway took back that you may borrow here"))

    def authorise(self, peer: NodeId) -> None:
        """Let a borrower in.

        Raises:
            LinkFault: The gateway did not name it.
        """
        if peer not in self._borrowers:
            raise LinkFault("the gateway did not name you to this node", hint="try again shortly")

    def on_memory(self, link: MemoryLink) -> None:
        """A link of somebody who was let in; of more than two the oldest gives way."""
        loans = self._links.setdefault(link.peer, [])
        if len(loans) >= LINKS_PER_PEER_MAX:
            loans[0].close(LinkFault(f"{LINKS_PER_PEER_MAX} links of one borrower are served"))
        loan = _Loan(self, link)
        self._links.setdefault(link.peer, loans).append(loan)
        self._store.linked(link.peer)

    def ended(self, loan: _Loan) -> None:
        """A link is gone."""
        peer = loan.link.peer
        loans = self._links.get(peer, [])
        if loan not in loans:
            return
        loans.remove(loan)
        if not loans:
            del self._links[peer]
            self._store.lost(peer, self.now_s())

    async def run(self) -> NoReturn:
        """Let go what is due, tell the gateway, and open our router, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tick(), name="expire-blobs")
            tasks.create_task(self._punch(), name="punch-to-borrowers")
        raise AssertionError("both go on for ever")

    def close(self) -> None:
        """End all links."""
        for loans in list(self._links.values()):
            for loan in list(loans):
                loan.close(None)

    def now_s(self) -> float:
        """The loop's time."""
        return asyncio.get_running_loop().time()

    async def _tick(self) -> NoReturn:
        while True:
            await asyncio.sleep(TICK_S)
            gone = self._store.expire(self.now_s())
            if gone:
                log.info("memory_host.expired blobs=%d", gone)
            self._send(Lent(self._store.used_bytes, self._store.blobs))

    async def _punch(self) -> NoReturn:
        while True:
            order = await self._punches.get()
            if self._endpoint is not None:
                await self._endpoint.punch(order.address, expected=order.peer)


class _Loan:
    """One borrower's link, and what is done on it."""

    def __init__(self, host: MemoryHost, link: MemoryLink) -> None:
        self._host, self.link = host, link
        self._store = host.store
        self._coming: Blob | None = None
        self._passed_over = 0
        """Parts that may still come of a blob that is not kept."""
        self._going: Blob | None = None
        link.start(self)

    def close(self, reason: LinkFault | None) -> None:
        """End it."""
        self._end()
        self.link.close(reason)

    def on_closed(self, reason: LinkFault | None) -> None:
        """The link is gone."""
        log.info("memory_host.ended peer=%s reason=%s", self.link.peer, reason)
        self._end()

    def on_message(self, message: MemoryMessage) -> None:
        """Do what is asked."""
        if isinstance(message, BlobPart):
            self._take(message.data)
            return
        self._passed_over = 0
        if self._coming is not None:
            raise ProtocolFault(
                f"a {type(message).__name__} amid the parts of a blob", hint=SAME_VERSION
            )
        if not isinstance(message, AskPart):
            self._going = None
        peer, now_s = self.link.peer, self._host.now_s()
        match message:
            case PutBlob(name, size_bytes):
                self._coming = self._store.begin(peer, name, size_bytes, now_s)
                self._answer(Room() if self._coming else NotKept("there is no room for it"))
            case GetBlob(name):
                self._going = self._store.find(peer, name, now_s)
                self._answer(BlobHere(self._going.size_bytes) if self._going else NoBlob())
            case AskPart(index):
                self._give(index)
            case DropBlob(name):
                self._store.drop(peer, name)
                self._answer(BlobDropped())
            case _:
                raise ProtocolFault(
                    f"a borrower may not send {type(message).__name__}", hint=SAME_VERSION
                )

    def _take(self, data: bytes) -> None:
        blob = self._coming
        if blob is None:
            # They were on their way when the borrower was told that the blob had to go.
            if not self._passed_over:
                raise ProtocolFault("a part of no blob", hint=SAME_VERSION)
            self._passed_over -= 1
            return
        try:
            held = self._store.add(blob, data, self._host.now_s())
        except ValueError as problem:
            raise ProtocolFault(str(problem), hint=SAME_VERSION) from problem
        if not held:
            self._coming, self._passed_over = None, PARTS_AHEAD_MAX
            self._answer(NotKept("it had to make room for others"))
        elif blob.is_whole:
            self._coming = None
            self._answer(BlobKept())
        else:
            self._answer(PartTaken())

    def _give(self, index: int) -> None:
        blob = self._going
        if blob is None or not self._store.is_held(blob):
            self._answer(NoBlob())
        elif index >= len(blob.parts):
            raise ProtocolFault(f"part {index} of a blob of {len(blob.parts)}", hint=SAME_VERSION)
        else:
            self._answer(BlobPart(blob.parts[index]))

    def _answer(self, message: MemoryMessage) -> None:
        self.link.send(message)
        if self.link.buffered_bytes > WAITING_BYTES_MAX:
            raise LinkFault("more is asked for than is read")

    def _end(self) -> None:
        if self._coming is not None:
            self._store.abandon(self._coming)
        self._coming = self._going = None
        self._host.ended(self)
