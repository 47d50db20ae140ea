"""Times the ways to other nodes when the gateway asks, and tells what came of it.

Of two nodes that are named to each other one dials, the other lets it in once, and
opens its own router for it.
Whatever goes wrong is the answer of the one that was to dial.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import NoReturn, Protocol

from atoll.domain.address import Address
from atoll.domain.errors import LinkFault
from atoll.domain.ids import NodeId
from atoll.domain.timing import PROBLEM_CHARS_MAX, PeerNotTimed, PeerTimed, TimePeer
from atoll.net.link import NotWelcome, TimingLink, peer_text
from atoll.node.way_timer import WayTimer

log = logging.getLogger(__name__)

LIMIT_S = 10.0
"""Most time for one way: dialling, and both turns."""
EXPECT_S = 2 * LIMIT_S
"""How long a node that dials is let in after the gateway named it."""
EARLY_S = 0.2
"""The gateway's word may reach the other node later than we do: so long until another try."""
EARLY_TRIES = 10
ORDERS_MAX = 8
EXPECTED_MAX = 64


class _Transport(Protocol):
    """What is needed of a `Transport`."""

    @property
    def endpoint(self) -> _Endpoint | None: ...

    def dial_timing(self, address: Address, *, expected: NodeId) -> Awaitable[TimingLink]: ...


class _Endpoint(Protocol):
    def punch(self, address: Address, *, expected: NodeId) -> Awaitable[None]: ...


class PeerTimer:
    """What a node does for the gateway's table of ways.

    Args:
        transport: What dials other nodes.
        send: Takes the answer for the gateway.
    """

    def __init__(
        self, transport: _Transport, *, send: Callable[[PeerTimed | PeerNotTimed], None]
    ) -> None:
        self._transport = transport
        self._send = send
        self._orders: asyncio.Queue[TimePeer] = asyncio.Queue(ORDERS_MAX)
        self._expected: dict[NodeId, tuple[TimePeer, float]] = {}
        self._came: asyncio.Queue[tuple[TimePeer, WayTimer, TimingLink]] = asyncio.Queue(ORDERS_MAX)
        self._punches: asyncio.Queue[TimePeer] = asyncio.Queue(ORDERS_MAX)
        self.is_hidden = False
        """Whether nobody gets through to this node before it has sent something there."""

    def ask(self, order: TimePeer) -> None:
        """Do this: dial once what is under way is done, or let the peer in that dials."""
        if not order.dial:
            now_s = asyncio.get_running_loop().time()
            self._expected = {p: e for p, e in self._expected.items() if e[1] > now_s}
            if len(self._expected) < EXPECTED_MAX:
                self._expected[order.peer] = (order, now_s + EXPECT_S)
                if self.is_hidden and order.address.quic and not self._punches.full():
                    self._punches.put_nowait(order)
            return
        try:
            self._orders.put_nowait(order)
        except asyncio.QueueFull:
            self._send(PeerNotTimed(order.peer, "too many ways are to be timed from here"))

    def authorise(self, peer: NodeId) -> None:
        """Let somebody in whom the gateway named.

        Raises:
            LinkFault: It did not.
        """
        order_until = self._expected.get(peer)
        if order_until is None or order_until[1] <= asyncio.get_running_loop().time():
            raise LinkFault("the gateway did not name you to this node", hint="try again shortly")

    def on_timing(self, link: TimingLink) -> None:
        """A link of somebody who was let in."""
        expected = self._expected.pop(link.peer, None)
        if expected is None or self._came.full():
            link.close(LinkFault("one way is timed at a time", hint="try again shortly"))
            return
        order, _ = expected
        self._came.put_nowait((order, WayTimer(link, order.burst_bytes), link))

    async def run(self) -> NoReturn:
        """Follow orders until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._lead(), name="time peers")
            tasks.create_task(self._follow(), name="be timed by peers")
            tasks.create_task(self._punch(), name="punch to peers")
        raise AssertionError("all go on for ever")

    async def _lead(self) -> NoReturn:
        while True:
            order = await self._orders.get()
            answer: PeerTimed | PeerNotTimed
            try:
                async with asyncio.timeout(LIMIT_S):
                    link = await self._dialled(order)
                    answer = await _timed(WayTimer(link, order.burst_bytes), link, leads=True)
            except TimeoutError:
                answer = PeerNotTimed(order.peer, f"it takes longer than {LIMIT_S:g} s")
            except LinkFault as fault:
                problem = peer_text(fault.problem, PROBLEM_CHARS_MAX)
                answer = PeerNotTimed(order.peer, problem)
            if isinstance(answer, PeerNotTimed):
                log.warning("peer_timer.failed peer=%s problem=%s", order.peer, answer.problem)
            self._send(answer)

    async def _dialled(self, order: TimePeer) -> TimingLink:
        dial = self._transport.dial_timing
        for _ in range(EARLY_TRIES):
            try:
                return await dial(order.address, expected=order.peer)
            except NotWelcome as refused:
                log.info("peer_timer.early peer=%s problem=%s", order.peer, refused.problem)
                await asyncio.sleep(EARLY_S)
        return await dial(order.address, expected=order.peer)

    async def _follow(self) -> NoReturn:
        while True:
            order, timer, link = await self._came.get()
            try:
                async with asyncio.timeout(LIMIT_S):
                    self._send(await _timed(timer, link, leads=False))
            except (TimeoutError, LinkFault) as problem:
                # The one that dialled tells the gateway.
                log.info("peer_timer.ended peer=%s problem=%s", order.peer, problem or "too slow")

    async def _punch(self) -> NoReturn:
        """Send to those who will dial, so that our router lets them in."""
        while True:
            order = await self._punches.get()
            endpoint = self._transport.endpoint
            if endpoint is not None:
                await endpoint.punch(order.address, expected=order.peer)


async def _timed(timer: WayTimer, link: TimingLink, *, leads: bool) -> PeerTimed:
    """What the timer finds; the link ends in any case, after what waits on it."""
    try:
        return await timer.run(leads=leads)
    finally:
        link.close()
