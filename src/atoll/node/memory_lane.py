"""The borrowing side of one memory link: one thing at a time, and never without an end.

Whatever does not come in time or in order ends the link: a late answer is then never
taken for that to something else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from atoll.domain.errors import LinkFault, ProtocolFault
from atoll.domain.lent_memory import (
    PART_BYTES,
    PARTS_AHEAD_MAX,
    AskPart,
    BlobDropped,
    BlobHere,
    BlobKept,
    BlobPart,
    DropBlob,
    GetBlob,
    MemoryMessage,
    NoBlob,
    NotKept,
    PartTaken,
    PutBlob,
    Room,
    part_bytes,
    parts_of,
)
from atoll.net.link import SAME_VERSION, MemoryLink

STEP_S = 5.0
"""How long each answer may take."""
SLOW_BYTES_PER_S = 1e6
"""A blob may take so long in all: slower than this it had better be computed again."""
MORE_S = 10.0
"""Beside that, for each."""
_T = TypeVar("_T")


class MemoryLane:
    """One link to a node that lends memory; starts it.

    Args:
        link: It stands, and nobody has started it.
    """

    def __init__(self, link: MemoryLink) -> None:
        self._link = link
        # Answers to what was sent ahead, and the end.
        self._inbox: asyncio.Queue[MemoryMessage | None] = asyncio.Queue(PARTS_AHEAD_MAX + 2)
        self._lock = asyncio.Lock()
        link.start(self)

    @property
    def is_closed(self) -> bool:
        """Whether nothing more comes of it."""
        return self._link.is_closed

    async def put(self, name: str, blob: bytes) -> bool:
        """Have a blob kept; False: there is no room.

        Raises:
            LinkFault: The link is gone, or was too slow.
        """
        async with self._lock:
            return await self._ending(self._put(name, blob))

    async def get(self, name: str) -> bytes | None:
        """A blob, or None; otherwise as `put`."""
        async with self._lock:
            return await self._ending(self._get(name))

    async def drop(self, name: str) -> None:
        """Have a blob forgotten; otherwise as `put`."""
        async with self._lock:
            await self._ending(self._drop(name))

    def close(self) -> None:
        """End it."""
        self._link.close()

    def on_message(self, message: MemoryMessage) -> None:
        """An answer."""
        if self._inbox.qsize() > PARTS_AHEAD_MAX:
            raise ProtocolFault("more answers than questions", hint=SAME_VERSION)
        self._inbox.put_nowait(message)

    def on_closed(self, _reason: LinkFault | None) -> None:
        """Nothing comes any more; one place in the queue is kept for that."""
        self._inbox.put_nowait(None)

    async def _ending(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do it, and end the link unless it was done to its end."""
        done = False
        try:
            result = await work
            done = True
            return result
        except TimeoutError:
            raise LinkFault("the node that lends memory is too slow") from None
        finally:
            if not done:
                self._link.close()

    async def _put(self, name: str, blob: bytes) -> bool:
        size_bytes = len(blob)
        async with asyncio.timeout(_limit_s(size_bytes)):
            self._say(PutBlob(name, size_bytes))
            answer = await self._answer()
            if isinstance(answer, Room):
                n_parts = parts_of(size_bytes)
                sent = answered = 0
                while answered < n_parts:
                    while sent < n_parts and sent - answered < PARTS_AHEAD_MAX:
                        start = sent * PART_BYTES
                        self._say(BlobPart(blob[start : start + PART_BYTES]))
                        sent += 1
                    answer = await self._answer()
                    answered += 1
                    if not isinstance(answer, PartTaken):
                        break
                if isinstance(answer, BlobKept) and answered == n_parts:
                    return True
            if isinstance(answer, NotKept):
                return False
        raise _unexpected(answer)

    async def _get(self, name: str) -> bytes | None:
        self._say(GetBlob(name))
        answer = await self._answer()
        if not isinstance(answer, BlobHere):
            _no_blob(answer)
            return None
        size_bytes = answer.size_bytes
        n_parts = parts_of(size_bytes)
        asked, parts = 0, list[bytes]()
        async with asyncio.timeout(_limit_s(size_bytes)):
            while len(parts) < n_parts:
                while asked < n_parts and asked - len(parts) < PARTS_AHEAD_MAX:
                    self._say(AskPart(asked))
                    asked += 1
                answer = await self._answer()
                if not isinstance(answer, BlobPart):
                    # It had to go meanwhile; so say all answers that still come.
                    for _ in range(asked - len(parts) - 1):
                        _no_blob(await self._answer())
                    _no_blob(answer)
                    return None
                if len(answer.data) != part_bytes(size_bytes, len(parts)):
                    raise ProtocolFault("a part of another length", hint=SAME_VERSION)
                parts.append(answer.data)
        return b"".join(parts)

    async def _drop(self, name: str) -> None:
        self._say(DropBlob(name))
        answer = await self._answer()
        if not isinstance(answer, BlobDropped):
            raise _unexpected(answer)

    def _say(self, message: MemoryMessage) -> None:
        if not self._link.send(message):
            raise LinkFault("the node that lends memory is gone")

    async def _answer(self) -> MemoryMessage:
        async with asyncio.timeout(STEP_S):
            answer = await self._inbox.get()
        if answer is None:
            self._inbox.put_nowait(None)
            raise LinkFault("the node that lends memory is gone")
        return answer


def _limit_s(size_bytes: int) -> float:
    return MORE_S + size_bytes / SLOW_BYTES_PER_S


def _no_blob(answer: MemoryMessage) -> None:
    if not isinstance(answer, NoBlob):
        raise _unexpected(answer)


def _unexpected(answer: MemoryMessage) -> ProtocolFault:
    return ProtocolFault(f"nobody asked for a {type(answer).__name__}", hint=SAME_VERSION)
