"""Fetches a shard over bulk links: in pieces, from several holders, each piece checked.

The gateway says what the shard is made of, and vouches for it; who brings the
pieces does not matter, since a wrong one is noticed by its hash. Over QUIC
several links to one holder are used at a time: the congestion control of one
halves its pace for each packet lost.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from atoll.domain.bulk import (
    BLOCK_BYTES_MAX,
    HASH_BYTES,
    AskBlock,
    AskOutline,
    Block,
    BulkMessage,
    NotHere,
    Outline,
    ShardRange,
)
from atoll.domain.errors import AtollError, LinkFault, ProtocolFault, PullFailed
from atoll.net.link import SAME_VERSION, BulkLink, LinkLost, peer_text

log = logging.getLogger(__name__)

LANES = {"tls": 2, "quic": 8}
"""Links to one holder at a time, by what carries them."""
ASKS_AHEAD = 6
"""Blocks that a link is asked for before the first of them is here."""
ANSWER_S = 30.0
"""How long a holder may take for a block, or the gateway to read a shard for its outline."""
OUTLINE_S = 120.0
ROUNDS_MAX = 4
"""Rounds in a row that bring nothing before the fetch is given up; what came is kept."""
PAUSE_S = 0.5
TEXT_CHARS_MAX = 300

Progress = Callable[[int, int], None]
"""Told (bytes here, bytes in all)."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody who has the shard; `dial` opens another link to it."""

    name: str
    dial: Callable[[], Awaitable[BulkLink]]


class Refused(PullFailed):
    """The holder answered that it cannot help."""


class _Client:
    """Asks on one link; answers come in the order of the asks."""

    def __init__(self, link: BulkLink) -> None:
        self.link = link
        self._waiting: deque[asyncio.Future[BulkMessage]] = deque()
        self._reason: LinkFault | None = None
        link.start(self)

    def ask(self, message: AskOutline | AskBlock) -> asyncio.Future[BulkMessage]:
        """Send it; the future holds the answer, or why there will be none."""
        answer: asyncio.Future[BulkMessage] = asyncio.get_running_loop().create_future()
        # Those behind one that failed are awaited by nobody.
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        if self.link.send(message):
            self._waiting.append(answer)
        else:
            answer.set_exception(self._reason or LinkLost("the link is closed"))
        return answer

    def on_message(self, message: BulkMessage) -> None:
        """The answer to the oldest ask."""
        if not self._waiting or not isinstance(message, Outline | Block | NotHere):
            raise ProtocolFault(f"nobody asked for {type(message).__name__}", hint=SAME_VERSION)
        answer = self._waiting.popleft()
        if answer.done():
            return
        if isinstance(message, NotHere):
            answer.set_exception(
                Refused(peer_text(message.problem, TEXT_CHARS_MAX), hint="try again shortly")
            )
        else:
            answer.set_result(message)

    def on_closed(self, reason: LinkFault | None) -> None:
        """Nothing more will come."""
        self._reason = reason or LinkLost("the link is closed")
        while self._waiting:
            answer = self._waiting.popleft()
            if not answer.done():
                answer.set_exception(self._reason)


@dataclass(slots=True)
class _Piece:
    """A piece on its way: what came of it so far."""

    number: int
    data: bytearray = field(default_factory=bytearray)


class Borrower:
    """One fetch of one shard into an open file.

    Args:
        shard: What is fetched.
        out: Where to, open for reading and writing; pieces of an earlier fetch
            that are in it are used.
        progress: Told how much is here.
        room: Raises `PullFailed` where so many more bytes have no room.
    """

    def __init__(
        self,
        shard: ShardRange,
        out: BinaryIO,
        *,
        progress: Progress,
        room: Callable[[int], None],
    ) -> None:
        self._shard = shard
        self._out = out
        self._progress = progress
        self._room = room
        self._outline: Outline
        self._missing: deque[int] = deque()
        self._left_bytes = 0
        self._fault: AtollError = PullFailed("nobody has the shard")
        self._distrusted: set[str] = set()
        self.fetched_bytes = 0

    async def run(self, holders: Sequence[Holder]) -> None:
        """Fetch what is missing; the first of `holders`, the gateway, says what that is.

        Raises:
            PullFailed: Nobody brings the rest; what came is in the file.
            LinkFault: The gateway cannot be reached.
            OSError: The file cannot be written.
        """
        client = _Client(await holders[0].dial())
        try:
            outline = await _within(OUTLINE_S, client.ask(AskOutline(self._shard)))
            if not isinstance(outline, Outline):
                raise ProtocolFault("the gateway gave no outline", hint=SAME_VERSION)
            self._outline = outline
            await asyncio.to_thread(self._look_over)
            self._tell()
            await self._rounds(holders, client)
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            client.link.close()

    async def _rounds(self, holders: Sequence[Holder], client: _Client) -> None:
        idle = 0
        while self._left_bytes:
            before = self._left_bytes
            await self._round(holders, client)
            idle = idle + 1 if self._left_bytes == before else 0
            if idle >= ROUNDS_MAX:
                raise self._given_up()
            if idle:
                await asyncio.sleep(PAUSE_S * 2**idle)

    def _given_up(self) -> PullFailed:
        return PullFailed(
            f"the shard cannot be fetched: {self._fault.problem}",
            hint=self._fault.hint or "it goes on where it ended once its holders are back",
        )

    def _look_over(self) -> None:
        """Find which pieces are here already, and make room for the rest."""
        size_bytes, piece_bytes = self._outline.size_bytes, self._outline.piece_bytes
        self._out.seek(0)
        self._missing.clear()
        for number in range(-(-size_bytes // piece_bytes)):
            data = self._out.read(self._size_of(number))
            if not self._is_right(number, data):
                self._missing.append(number)
        self._left_bytes = sum(map(self._size_of, self._missing))
        self._room(self._left_bytes)
        self._out.truncate(size_bytes)

    def _size_of(self, number: int) -> int:
        start = number * self._outline.piece_bytes
        return min(self._outline.piece_bytes, self._outline.size_bytes - start)

    def _is_right(self, number: int, data: bytes | bytearray) -> bool:
        wanted = self._outline.hashes[number * HASH_BYTES :][:HASH_BYTES]
        return hashlib.sha256(data).digest() == wanted

    async def _round(self, holders: Sequence[Holder], client: _Client) -> None:
        """Let every holder bring what it can, over as many links as its kind of link bears."""
        trusted = [holder for holder in holders if holder.name not in self._distrusted]
        if not trusted:
            raise self._given_up()
        lanes = max(1, LANES[client.link.carrier] // len(trusted))
        async with asyncio.TaskGroup() as tasks:
            for holder in trusted:
                for i in range(min(lanes, len(self._missing))):
                    standing = client if i == 0 and holder is holders[0] else None
                    tasks.create_task(
                        self._lane(holder, standing), name=f"fetch from {holder.name}"
                    )

    async def _lane(self, holder: Holder, client: _Client | None) -> None:
        """One link: ask for blocks ahead, keep the pieces they make, until none is missing."""
        taken: dict[int, _Piece] = {}
        waiting: deque[tuple[_Piece, asyncio.Future[BulkMessage]]] = deque()
        try:
            if client is None or client.link.is_closed:
                client = _Client(await holder.dial())
            blocks = self._blocks(taken)
            while True:
                while len(waiting) < ASKS_AHEAD and (found := next(blocks, None)) is not None:
                    piece, ask = found
                    waiting.append((piece, client.ask(ask)))
                if not waiting:
                    return
                piece, answer = waiting.popleft()
                await self._take(piece, await _within(ANSWER_S, answer), holder, taken)
        except (LinkFault, PullFailed) as fault:
            log.info("borrower.lane_ended holder=%s problem=%s", holder.name, fault.problem)
            self._fault = fault
        finally:
            self._missing.extendleft(sorted(taken, reverse=True))
            if client is not None:
                client.link.close()

    def _blocks(self, taken: dict[int, _Piece]) -> Iterator[tuple[_Piece, AskBlock]]:
        """What to ask for next; pieces are taken as their first block is asked for."""
        while self._missing:
            number = self._missing.popleft()
            piece = taken[number] = _Piece(number)
            start = number * self._outline.piece_bytes
            stop = start + self._size_of(number)
            for offset in range(start, stop, BLOCK_BYTES_MAX):
                size = min(BLOCK_BYTES_MAX, stop - offset)
                yield piece, AskBlock(self._shard, offset, size)

    async def _take(
        self, piece: _Piece, answer: BulkMessage, holder: Holder, taken: dict[int, _Piece]
    ) -> None:
        """A block has come; with its last one the piece is checked and kept."""
        offset = piece.number * self._outline.piece_bytes + len(piece.data)
        left = self._size_of(piece.number) - len(piece.data)
        if not isinstance(answer, Block) or answer.offset != offset:
            raise ProtocolFault("the holder gave another block than asked for", hint=SAME_VERSION)
        if len(answer.data) != min(BLOCK_BYTES_MAX, left):
            raise ProtocolFault("the holder gave a block of another size", hint=SAME_VERSION)
        self.fetched_bytes += len(answer.data)
        piece.data += answer.data
        if len(piece.data) < self._size_of(piece.number):
            return
        if not await asyncio.to_thread(self._keep, piece):
            self._distrusted.add(holder.name)
            raise PullFailed(f"{holder.name} sent a piece that does not match its hash")
        del taken[piece.number]
        self._left_bytes -= len(piece.data)
        self._tell()

    def _keep(self, piece: _Piece) -> bool:
        """Write a piece if it is right."""
        if not self._is_right(piece.number, piece.data):
            return False
        os.pwrite(self._out.fileno(), piece.data, piece.number * self._outline.piece_bytes)
        return True

    def _tell(self) -> None:
        self._progress(self._outline.size_bytes - self._left_bytes, self._outline.size_bytes)


async def _within(seconds: float, answer: asyncio.Future[BulkMessage]) -> BulkMessage:
    """The answer, if it comes in time."""
    try:
        async with asyncio.timeout(seconds):
            return await answer
    except TimeoutError:
        raise LinkLost(f"no answer came within {seconds:g} s") from None
