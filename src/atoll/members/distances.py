"""How far nodes are from the gateway and each other: round trips, and the rates of ways.

Each node is sent some small echoes, one after the other, then a large one. Half of
the median round trip is the latency; what the large one takes longer is its bytes
at the link's rate. It is repeated now and then, as ways change. Ways between nodes
are the nodes' own to time (`PeerWays`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import statistics
import time
from dataclasses import dataclass, field

from atoll.domain.control import Echo, EchoBack
from atoll.domain.ids import NodeId
from atoll.members.member import Member
from atoll.members.peer_ways import PeerWays
from atoll.plan.fleet import LinkEntry

log = logging.getLogger(__name__)

SMALL = 7
PADDING_BYTES = 192 * 1024
"""Of the large echo: some round trips' worth on a home line, a moment on a local one."""
AGAIN_S = 60.0
BYTES_PER_S_MAX = 1.25e9
"""Faster than this the clock cannot tell."""
WAIT_S = 10.0
"""How long a ring that forms waits for the first round trips."""


@dataclass(slots=True)
class _Course:
    """What is known of one node's way."""

    member: Member
    number: int = 0
    sent_s: float = 0.0
    round_trips_s: list[float] = field(default_factory=list)
    link: tuple[float, float] | None = None
    """Latency, seconds, and rate, bytes per second."""
    timer: asyncio.TimerHandle | None = None


class Distances:
    """Times the ways to all members.

    Args:
        gateway: What the gateway is called in plans.
    """

    def __init__(self, gateway: str = "gateway") -> None:
        self._gateway = gateway
        self._courses: dict[NodeId, _Course] = {}
        self._known = asyncio.Event()
        self._known.set()
        self.peers = PeerWays(self._distance_s)

    def came(self, member: Member) -> None:
        """A node is in."""
        course = self._courses[member.link.peer] = _Course(member)
        self._known.clear()
        self._begin(course)
        self.peers.came(member)

    def left(self, node: NodeId) -> None:
        """A node is gone."""
        course = self._courses.pop(node, None)
        if course is not None and course.timer is not None:
            course.timer.cancel()
        self._note()
        self.peers.left(node)

    def heard(self, node: NodeId, message: EchoBack) -> None:
        """An echo came back; one that is not waited for is passed over."""
        course = self._courses.get(node)
        if course is None or message.number != course.number:
            return
        now_s = time.perf_counter()
        course.round_trips_s.append(now_s - course.sent_s)
        if len(course.round_trips_s) <= SMALL:
            self._send(course)
        else:
            self._conclude(course)

    def links(self) -> tuple[LinkEntry, ...]:
        """What is known; between gateway and nodes in both directions alike."""
        own = tuple(
            LinkEntry(*ends, *course.link)
            for course in self._courses.values()
            if course.link is not None
            for ends in (
                (self._gateway, course.member.name),
                (course.member.name, self._gateway),
            )
        )
        return own + self.peers.links()

    def _distance_s(self, node: NodeId) -> float | None:
        link = self._courses[node].link if node in self._courses else None
        return link[0] if link is not None else None

    async def wait_known(self) -> None:
        """Wait until every way was timed once, but not for long."""
        try:
            async with asyncio.timeout(WAIT_S):
                await self._known.wait()
        except TimeoutError:
            log.warning("distances.not_known waited_s=%g", WAIT_S)

    def close(self) -> None:
        """Time no more."""
        self.peers.close()
        for node in list(self._courses):
            self.left(node)

    def _begin(self, course: _Course) -> None:
        course.timer = None
        course.round_trips_s.clear()
        self._send(course)

    def _send(self, course: _Course) -> None:
        course.number += 1
        large = len(course.round_trips_s) == SMALL
        # Of chance, so that no line on the way makes it shorter.
        padding = os.urandom(PADDING_BYTES) if large else b""
        # Not the loop's clock, which uvloop moves in whole milliseconds.
        course.sent_s = time.perf_counter()
        course.member.link.send(Echo(course.number, padding))

    def _conclude(self, course: _Course) -> None:
        small_s = statistics.median(course.round_trips_s[:SMALL])
        longer_s = course.round_trips_s[SMALL] - small_s
        rate = PADDING_BYTES / max(longer_s, PADDING_BYTES / BYTES_PER_S_MAX)
        if course.link is None:
            self.peers.look_soon()
        course.link = (small_s / 2, rate)
        log.info(
            "distances.known node=%s latency_ms=%.2f mb_s=%.1f",
            *(course.member.name, 1e3 * small_s / 2, rate / 1e6),
        )
        loop = asyncio.get_running_loop()
        course.timer = loop.call_later(AGAIN_S, self._begin, course)
        self._note()

    def _note(self) -> None:
        if all(course.link is not None for course in self._courses.values()):
            self._known.set()
