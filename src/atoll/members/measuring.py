"""Has every node measured once it is in, one of a host at a time, and the ways to it timed.

What comes is checked (`domain.measure.answer_problem`); nonsense is logged and
counts as no answer. A ring that forms waits until nobody measures, within a limit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from msgspec.structs import replace

from atoll.domain.control import EchoBack
from atoll.domain.ids import NodeId
from atoll.domain.measure import Measure, Measured, NotMeasured, answer_problem, rows_for
from atoll.domain.timing import PeerNotTimed, PeerTimed
from atoll.members.distances import Distances
from atoll.members.leases import Ask, Came, Done, Effect, Late, Leases, Tick, WakeAt
from atoll.members.member import Member
from atoll.net.link import peer_text

log = logging.getLogger(__name__)

LEASE_S = 30.0
"""How long a node may measure before the next one of its host does: two processes to start,
2 s of calls, and the shards' way to it."""
WAIT_S = 60.0
"""How long a ring that forms waits for measurements; who has none then is not measured."""
TEXT_CHARS_MAX = 300

Heard = Measured | NotMeasured | EchoBack | PeerTimed | PeerNotTimed
"""What nodes say of what was measured."""


class Measuring:
    """Who is measured, who is being measured.

    Args:
        order: What nodes are asked to time; None: nobody is asked.
    """

    def __init__(self, order: Measure | None) -> None:
        self._order = order
        self._leases = Leases(LEASE_S)
        self._members: dict[NodeId, Member] = {}
        self._asked: dict[NodeId, bool] = {}
        self._timers: set[asyncio.TimerHandle] = set()
        self._settled = asyncio.Event()
        self._settled.set()
        self.distances = Distances()
        self.distances.peers.busy_hosts = lambda: self._leases.busy_hosts
        self.distances.peers.is_serving = self._is_serving
        self.is_serving: Callable[[], bool] = lambda: False
        """Whether the ring serves, and its stages use their machines."""

    def came(self, member: Member) -> None:
        """A node is in."""
        if self._order is None:
            return
        self._members[member.link.peer] = member
        self.distances.came(member)
        self._handle(Came(member.link.peer, member.join.host_id))

    def left(self, member: Member) -> None:
        """A node is gone."""
        if self._members.pop(member.link.peer, None) is not None:
            self._asked.pop(member.link.peer, None)
            self.distances.left(member.link.peer)
            self._handle(Done(member.link.peer))

    def heard(self, member: Member, message: Heard) -> None:
        """A node's answer, maybe late; without being asked nobody is heard."""
        if isinstance(message, EchoBack):
            self.distances.heard(member.link.peer, message)
            return
        if isinstance(message, PeerTimed | PeerNotTimed):
            self.distances.peers.heard(member.link.peer, message)
            return
        busy = self._asked.pop(member.link.peer, None)
        if busy is None or self._order is None:
            log.warning("measuring.unasked node=%s", member.name)
            return
        if isinstance(message, NotMeasured):
            problem = peer_text(message.problem, TEXT_CHARS_MAX)
            log.warning("measuring.failed node=%s problem=%s", member.name, problem)
        else:
            rows = rows_for(self._order.rows_max)
            problem = answer_problem(message, self._order.model, rows)
            if problem:
                log.warning("measuring.nonsense node=%s problem=%s", member.name, problem)
            else:
                member.measured = replace(message, busy=message.busy or busy)
                log.info("measuring.done node=%s busy=%s", member.name, member.measured.busy)
        self._handle(Done(member.link.peer))

    async def wait_settled(self, tell: Callable[[str], None] = lambda _line: None) -> None:
        """Wait until nobody measures or waits to, but not for ever; if so, that is told."""
        if not self._settled.is_set():
            tell("the nodes measure how fast they are; those of one machine take turns")
        try:
            async with asyncio.timeout(WAIT_S):
                await self._settled.wait()
        except TimeoutError:
            log.warning("measuring.not_settled waited_s=%g", WAIT_S)
        await self.distances.wait_known()
        await self.distances.peers.wait_settled()

    def close(self) -> None:
        """Ask nobody any more."""
        self._order = None
        self.distances.close()
        for timer in self._timers:
            timer.cancel()

    def _handle(self, event: Came | Done | Tick) -> None:
        loop = asyncio.get_running_loop()
        for effect in self._leases.handle(event, now_s=loop.time()):
            self._carry_out(effect, loop)
        if self._leases.is_settled:
            self._settled.set()
        else:
            self._settled.clear()
        # Hosts that are done with it may time their ways.
        self.distances.peers.look_soon()

    def _carry_out(self, effect: Effect, loop: asyncio.AbstractEventLoop) -> None:
        match effect:
            case Ask(node):
                self._ask(self._members[node])
            case Late(node):
                # It may still answer; that counts, but the next one measures now.
                if node in self._asked:
                    self._asked[node] = True
                log.warning("measuring.late node=%s", self._members[node].name)
            case WakeAt(at_s):
                timer = loop.call_at(at_s, self._tick)
                self._timers = {t for t in self._timers if not t.cancelled()} | {timer}

    def _is_serving(self) -> bool:
        return self.is_serving()

    def _tick(self) -> None:
        now_s = asyncio.get_running_loop().time()
        self._timers = {t for t in self._timers if t.when() > now_s}
        self._handle(Tick())

    def _ask(self, member: Member) -> None:
        assert self._order is not None
        busy = self.is_serving() and any(
            other.ready is not None and other.join.host_id == member.join.host_id
            for other in self._members.values()
            if other is not member
        )
        self._asked[member.link.peer] = busy
        member.link.send(replace(self._order, busy=busy))
