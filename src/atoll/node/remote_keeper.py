"""Keeps blobs on the nodes that only lend memory, as far as the gateway has named them.

What is put here may be lost at any time, and whoever put it has to do without: a node
that is gone, slow or full is no error, but `False` or `None` within a bounded time.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar

from atoll.domain.address import Address
from atoll.domain.errors import LinkFault
from atoll.domain.ids import NodeId
from atoll.domain.lent_memory import (
    BLOB_BYTES_MAX,
    MemoryGone,
    MemoryHere,
    is_name,
)
from atoll.net.link import MemoryLink, NotWelcome
from atoll.node.memory_lane import MemoryLane

log = logging.getLogger(__name__)

DIAL_S = 5.0
RETRY_S = 10.0
"""A node that could not be reached, or broke a link, is left alone for so long."""
LIMIT_S = 60.0
"""Most time for one thing that is wanted, waiting for others among it."""
EARLY_S = 0.2
"""The gateway's word may reach the other node later than us: so long until another try."""
EARLY_TRIES = 10
LENDERS_MAX = 64
BLOBS_MAX = 65_536
"""Places that are remembered; the oldest give way."""
TRIES_MAX = 2
"""Nodes that a blob is offered to."""

_Way = Literal["put", "get"]
_T = TypeVar("_T")


class Dialler(Protocol):
    """What is needed of a `Transport`."""

    def dial_memory(self, address: Address, *, expected: NodeId) -> Awaitable[MemoryLink]:
        """A memory link to the holder of key `expected`."""


@dataclass(slots=True, eq=False)
class _Lender:
    """A node that lends memory."""

    here: MemoryHere
    lanes: dict[_Way, MemoryLane] = field(default_factory=dict)
    dialling: dict[_Way, asyncio.Lock] = field(
        default_factory=lambda: {"put": asyncio.Lock(), "get": asyncio.Lock()}
    )
    placed_bytes: int = 0
    left_alone_until_s: float = 0.0

    def close(self) -> None:
        for lane in self.lanes.values():
            lane.close()
        self.lanes.clear()


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a blob was put."""

    lender: _Lender
    size_bytes: int


class RemoteKeeper:
    """Blobs on other nodes; it dials nobody before `open`, and nobody unnamed.

    What is put and what is got goes over links of their own, so that what is waited
    for does not stand behind what is put away.
    """

    def __init__(self) -> None:
        self._dialler: Dialler | None = None
        self._lenders: dict[NodeId, _Lender] = {}
        self._places: OrderedDict[str, _Place] = OrderedDict()

    def open(self, dialler: Dialler) -> None:
        """Nodes are dialled over this from now on."""
        self._dialler = dialler

    def close(self) -> None:
        """End all links, and know of nobody any more."""
        self._dialler = None
        self._places.clear()
        for node in list(self._lenders):
            self._lenders.pop(node).close()

    def note(self, message: MemoryHere | MemoryGone) -> None:
        """The gateway names a node that lends memory, or says that it is gone."""
        old = self._lenders.pop(message.node, None)
        if old is not None:
            self._forget(old)
        if isinstance(message, MemoryHere) and len(self._lenders) < LENDERS_MAX:
            self._lenders[message.node] = _Lender(message)

    @property
    def lenders(self) -> list[NodeId]:
        """Which nodes there are."""
        return list(self._lenders)

    async def put(self, name: str, blob: bytes) -> bool:
        """Have a blob kept, in place of one of this name; False: nobody has room for it.

        Raises:
            ValueError: Nothing can be named so.
        """
        if not is_name(name):
            raise ValueError(f"a blob cannot be named {name!r}")
        await self.drop(name)
        if not 0 < len(blob) <= BLOB_BYTES_MAX:
            return False
        for lender in self._best(len(blob))[:TRIES_MAX]:
            if await self._on(lender, "put", lambda lane: lane.put(name, blob)):
                if self._lenders.get(lender.here.node) is not lender:
                    return False  # it left meanwhile
                self._remember(name, _Place(lender, len(blob)))
                return True
        return False

    async def get(self, name: str) -> bytes | None:
        """The blob of this name; None: it is not here (any more)."""
        place = self._places.get(name)
        if place is None:
            return None
        blob = await self._on(place.lender, "get", lambda lane: lane.get(name))
        if blob is not None and len(blob) != place.size_bytes:
            log.warning("remote_keeper.wrong_size node=%s", place.lender.here.node)
            return None
        return blob

    async def drop(self, name: str) -> None:
        """Have a blob forgotten; where that cannot be told, it goes by itself."""
        place = self._places.pop(name, None)
        if place is not None:
            place.lender.placed_bytes -= place.size_bytes
            await self._on(place.lender, "get", lambda lane: lane.drop(name))

    def _best(self, size_bytes: int) -> list[_Lender]:
        """Whom to offer a blob of this size, the one with the most room first."""

        def room(lender: _Lender) -> int:
            return lender.here.lent_bytes - lender.placed_bytes

        able = [one for one in self._lenders.values() if size_bytes < one.here.lent_bytes]
        return sorted((one for one in able if not _is_left_alone(one)), key=room, reverse=True)

    async def _on(
        self, lender: _Lender, way: _Way, work: Callable[[MemoryLane], Awaitable[_T]]
    ) -> _T | None:
        """Do something with a lender; None: it could not be done."""
        try:
            async with asyncio.timeout(LIMIT_S):
                lane = await self._lane(lender, way)
                return await work(lane) if lane is not None else None
        except (LinkFault, TimeoutError) as problem:
            log.info("remote_keeper.failed node=%s problem=%s", lender.here.node, problem)
            if isinstance(problem, LinkFault):
                lender.left_alone_until_s = asyncio.get_running_loop().time() + RETRY_S
            return None

    async def _lane(self, lender: _Lender, way: _Way) -> MemoryLane | None:
        """The link that stands, or a new one; None: there is none to be had now."""
        async with lender.dialling[way]:
            lane = lender.lanes.get(way)
            if lane is not None and not lane.is_closed:
                return lane
            if self._dialler is None or _is_left_alone(lender):
                return None
            try:
                async with asyncio.timeout(DIAL_S):
                    link = await self._dialled(self._dialler, lender)
            except TimeoutError:
                raise LinkFault(f"it did not answer within {DIAL_S:g} s") from None
            lane = MemoryLane(link)
            if self._lenders.get(lender.here.node) is not lender:
                lane.close()
                return None
            lender.lanes[way] = lane
            return lane

    async def _dialled(self, dialler: Dialler, lender: _Lender) -> MemoryLink:
        here = lender.here
        for _ in range(EARLY_TRIES):
            try:
                return await dialler.dial_memory(here.address, expected=here.node)
            except NotWelcome as refused:
                log.info("remote_keeper.early node=%s problem=%s", here.node, refused.problem)
                await asyncio.sleep(EARLY_S)
        return await dialler.dial_memory(here.address, expected=here.node)

    def _remember(self, name: str, place: _Place) -> None:
        # Of two that were put at once the later one counts.
        before = self._places.pop(name, None)
        if before is not None:
            before.lender.placed_bytes -= before.size_bytes
        place.lender.placed_bytes += place.size_bytes
        self._places[name] = place
        if len(self._places) > BLOBS_MAX:
            _, old = self._places.popitem(last=False)
            old.lender.placed_bytes -= old.size_bytes

    def _forget(self, lender: _Lender) -> None:
        """What lay there is lost."""
        lender.close()
        for name in [n for n, place in self._places.items() if place.lender is lender]:
            del self._places[name]


def _is_left_alone(lender: _Lender) -> bool:
    return asyncio.get_running_loop().time() < lender.left_alone_until_s
