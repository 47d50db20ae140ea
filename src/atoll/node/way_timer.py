"""One side of a timing link: round trips, bursts, and what came in between.

Both ends are alike. Who dialled begins: lone hails for the round trip, then bursts
for the rate, then it is the other side's turn. What arrives is timed by who
receives it; what is sent, by its answer.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from dataclasses import dataclass

from atoll.domain.errors import LinkFault, ProtocolFault
from atoll.domain.timing import (
    BURST_BYTES_MAX,
    BURSTS_MAX,
    BYTES_PER_S_MAX,
    HAILS_MAX,
    PART_BYTES,
    Hail,
    HailBack,
    PeerTimed,
    TimingMessage,
    YourTurn,
)
from atoll.net.link import SAME_VERSION, TimingLink

SMALL = 7
SLOW_S = 0.5
"""A first burst that took so long says the rate itself: a slow start is over by then."""
NUMBER_BITS = 63


@dataclass(slots=True)
class _Coming:
    """A burst that arrives: when its first part was here, and what came after that."""

    began_s: float
    left: int
    size_bytes: int = 0


class WayTimer:
    """Times the way to the other side of a link, and starts the link.

    Args:
        link: It stands, and nobody has started it.
        burst_bytes: What may be sent at a time.
    """

    def __init__(self, link: TimingLink, burst_bytes: int) -> None:
        self._link = link
        self._parts = burst_bytes // PART_BYTES
        self._waited = -1
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[float | LinkFault] | None = None
        self._turn: asyncio.Future[float | LinkFault] = self._loop.create_future()
        self._reason: LinkFault | None = None
        self._coming: _Coming | None = None
        self._in_bytes_per_s: float | None = None
        self._hails = self._heard_bytes = 0
        link.start(self)

    async def run(self, *, leads: bool) -> PeerTimed:
        """Take both turns; the one who `leads` has the first.

        Raises:
            LinkFault: The link broke, or the other side keeps to no rules.
        """
        if leads:
            round_trip_s, out = await self._take_turn()
            await self._wait(self._turn)
        else:
            await self._wait(self._turn)
            round_trip_s, out = await self._take_turn()
        if self._in_bytes_per_s is None:
            raise ProtocolFault("the other side sent nothing that could be timed")
        return PeerTimed(self._link.peer, round_trip_s, self._in_bytes_per_s, out)

    def on_message(self, message: TimingMessage) -> None:
        """A hail, an answer, or our turn."""
        match message:
            case Hail():
                self._hail(message)
            case HailBack(number):
                # Late answers are none: of each number there is one.
                if number == self._waited and self._answer and not self._answer.done():
                    self._waited = -1
                    self._answer.set_result(time.perf_counter())
            case YourTurn():
                if self._turn.done():
                    raise ProtocolFault("a turn that is over", hint=SAME_VERSION)
                self._turn.set_result(time.perf_counter())
            case _:
                raise ProtocolFault(
                    f"nobody asked for a {type(message).__name__}", hint=SAME_VERSION
                )

    def on_closed(self, reason: LinkFault | None) -> None:
        """The link is gone: nothing comes any more."""
        self._reason = reason or LinkFault("the link was closed")
        for waiting in (self._answer, self._turn):
            if waiting is not None and not waiting.done():
                waiting.set_result(self._reason)

    def _hail(self, hail: Hail) -> None:
        self._hails += 1
        self._heard_bytes += len(hail.padding)
        if self._hails > HAILS_MAX or self._heard_bytes > BURSTS_MAX * BURST_BYTES_MAX:
            raise LinkFault("more is sent than a way is timed with")
        coming = self._coming
        if coming is None and hail.left:
            self._coming = _Coming(time.perf_counter(), hail.left)
            return
        if coming is not None:
            if hail.left != coming.left - 1:
                raise ProtocolFault("a burst with a gap", hint=SAME_VERSION)
            coming.left = hail.left
            coming.size_bytes += len(hail.padding)
            if hail.left:
                return
            if not coming.size_bytes:
                raise ProtocolFault("a burst of nothing", hint=SAME_VERSION)
            took_s = time.perf_counter() - coming.began_s
            self._in_bytes_per_s = _rate(coming.size_bytes, took_s)
            self._coming = None
        self._link.send(HailBack(hail.number))

    async def _take_turn(self) -> tuple[float, float]:
        """The round trip, and the rate at which bursts were taken."""
        round_trip_s = min([await self._burst(0) for _ in range(SMALL)])
        took_s = await self._burst(self._parts)
        if took_s < SLOW_S:
            took_s = await self._burst(self._parts)
        self._link.send(YourTurn())
        return round_trip_s, _rate(self._parts * PART_BYTES, took_s - round_trip_s)

    async def _burst(self, parts: int) -> float:
        """Send so many parts, or a lone hail; how long until the answer."""
        # Of chance, so that no line on the way makes it shorter.
        padding = [os.urandom(PART_BYTES) for _ in range(parts)] or [b""]
        numbers = [secrets.randbits(NUMBER_BITS) for _ in padding]
        self._answer = self._loop.create_future()
        self._waited = numbers[-1]
        began_s = time.perf_counter()
        for i, (number, data) in enumerate(zip(numbers, padding, strict=True)):
            self._link.send(Hail(number, len(padding) - 1 - i, data))
        return await self._wait(self._answer) - began_s

    async def _wait(self, future: asyncio.Future[float | LinkFault]) -> float:
        """When it came, or the reason why it never will."""
        if self._reason is not None and not future.done():
            raise self._reason
        found = await future
        if isinstance(found, LinkFault):
            raise found
        return found


def _rate(size_bytes: int, took_s: float) -> float:
    return size_bytes / max(took_s, size_bytes / BYTES_PER_S_MAX)
