"""How far nodes are from each other: has pairs of them time it, and keeps what they say.

Both ends of a way are asked; what is known of it is the worse of what they saw, so
that nobody comes nearer by claiming it. Where one end cannot dial the other, that
one tries. A way that cannot be timed is remembered with the reason.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from atoll.domain.ids import NodeId
from atoll.domain.timing import (
    BURST_BYTES_MAX,
    PROBLEM_CHARS_MAX,
    PeerNotTimed,
    PeerTimed,
    TimePeer,
    answer_problem,
)
from atoll.members.member import Member, address_of
from atoll.members.pair_turns import PairTurns
from atoll.members.pairs import ALL_MAX, Pair, Place, pair_of
from atoll.net.link import peer_text
from atoll.plan.fleet import LinkEntry

log = logging.getLogger(__name__)

LEASE_S = 25.0
"""How long a pair may take: 10 s for each side's try to dial, and the messages' way."""
AGAIN_S = 1800.0
WAIT_S = 5.0
"""How long a ring that forms waits for ways that were never timed. What comes later
counts when the ring is looked at again."""
SOON_S = 0.1
MANY_SOON_S = 2.0
"""Who comes meanwhile is considered at once with the others; choosing pairs of a thousand
nodes takes a tenth of a second."""
BUSY_BURST_BYTES = BURST_BYTES_MAX // 4
"""What is sent at a time while a ring serves, whose windows wait behind it."""


@dataclass(slots=True)
class _Timing:
    """A pair that is at it."""

    dialler: NodeId
    answers: dict[NodeId, PeerTimed] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Way:
    """What is known of a pair: seconds one way, and rates from the first to the second and back."""

    latency_s: float
    there_bytes_per_s: float
    back_bytes_per_s: float


class PeerWays:
    """The ways between members.

    Args:
        distance_s: How far a node is from the gateway; None: not known yet.
    """

    def __init__(self, distance_s: Callable[[NodeId], float | None]) -> None:
        self._distance_s = distance_s
        self._members: dict[NodeId, Member] = {}
        self._turns = PairTurns(LEASE_S, AGAIN_S)
        self._timings: dict[Pair, _Timing] = {}
        self._ways: dict[Pair, _Way] = {}
        self._problems: dict[Pair, str] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._soon: asyncio.TimerHandle | None = None
        self._settled = asyncio.Event()
        self._settled.set()
        self.busy_hosts: Callable[[], Collection[str]] = lambda: ()
        """Hosts whose nodes measure themselves."""
        self.is_serving: Callable[[], bool] = lambda: False
        """Whether a ring serves, whose links are to be left alone."""

    def came(self, member: Member) -> None:
        """A node is in; one of an older version is not asked."""
        if member.join.times_peers:
            self._members[member.link.peer] = member
            self.look_soon()

    def left(self, node: NodeId) -> None:
        """A node is gone, and what was known of its ways."""
        if self._members.pop(node, None) is None:
            return
        for pair in [p for p in self._timings if node in p]:
            del self._timings[pair]
        self._turns.left(node)
        self._ways = {p: way for p, way in self._ways.items() if node not in p}
        self._problems = {p: text for p, text in self._problems.items() if node not in p}
        self.look_soon()

    def look_soon(self) -> None:
        """Something has changed: who is in, or how far it is."""
        if self._soon is None and self._members:
            self._settled.clear()
            soon_s = SOON_S if len(self._members) <= ALL_MAX else MANY_SOON_S
            self._soon = asyncio.get_running_loop().call_later(soon_s, self._look)

    def heard(self, node: NodeId, message: PeerTimed | PeerNotTimed) -> None:
        """A node's answer; without being asked nobody is heard."""
        pair = pair_of(node, message.peer)
        timing = self._timings.get(pair)
        if timing is None:
            log.warning("peer_ways.unasked node=%s", self._name(node))
            return
        if isinstance(message, PeerNotTimed):
            if node == timing.dialler:
                self._not_timed(pair, timing, peer_text(message.problem, PROBLEM_CHARS_MAX))
            return
        problem = answer_problem(message)
        if problem:
            log.warning("peer_ways.nonsense node=%s problem=%s", self._name(node), problem)
            self._give_up(pair, f"{self._name(node)} says {problem}")
            return
        timing.answers[node] = message
        if len(timing.answers) == 2:
            self._conclude(pair, timing)

    def links(self) -> tuple[LinkEntry, ...]:
        """What is known, in each direction by itself."""
        found = []
        for (a, b), way in self._ways.items():
            names = self._members[a].name, self._members[b].name
            found.append(LinkEntry(*names, way.latency_s, way.there_bytes_per_s))
            found.append(LinkEntry(*names[::-1], way.latency_s, way.back_bytes_per_s))
        return tuple(found)

    def problems(self) -> dict[tuple[str, str], str]:
        """Ways that could not be timed, by the names of their ends, and why."""
        return {(self._name(a), self._name(b)): text for (a, b), text in self._problems.items()}

    async def wait_settled(self) -> None:
        """Wait until every way was tried once, but not for long."""
        try:
            async with asyncio.timeout(WAIT_S):
                await self._settled.wait()
        except TimeoutError:
            log.info("peer_ways.not_settled waited_s=%g", WAIT_S)

    def close(self) -> None:
        """Ask nobody any more."""
        self._members.clear()
        self._timings.clear()
        self._ways.clear()
        self._problems.clear()
        for timer in (self._timer, self._soon):
            if timer is not None:
                timer.cancel()
        self._settled.set()

    def _look(self) -> None:
        """Consider who is in, and go on."""
        self._soon = None
        self._turns.want(
            Place(node, m.join.host_id, m.link.peer_host, self._distance_s(node) or 0.0)
            for node, m in self._members.items()
        )
        self._go_on()

    def _go_on(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        for pair in self._turns.late(now_s):
            self._note_problem(pair, f"no answer within {LEASE_S:g} s")
        serving = self.is_serving()
        for pair in self._turns.next(now_s, busy=self.busy_hosts(), alone=serving):
            self._timings[pair] = timing = _Timing(pair[0])
            self._ask(pair, timing)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at_s = self._turns.wake_at()
        if at_s is not None:
            self._timer = loop.call_at(at_s, self._go_on)
        if self._soon is None and self._turns.is_settled:
            self._settled.set()

    def _ask(self, pair: Pair, timing: _Timing) -> None:
        """Name them to each other; first to the one that is dialled."""
        dialler = timing.dialler
        other = pair[1] if dialler == pair[0] else pair[0]
        size = BUSY_BURST_BYTES if self.is_serving() else BURST_BYTES_MAX
        here, there = self._members[dialler], self._members[other]
        there.link.send(TimePeer(dialler, address_of(here), False, size))
        here.link.send(TimePeer(other, address_of(there), True, size))

    def _not_timed(self, pair: Pair, timing: _Timing, problem: str) -> None:
        timing.problems.append(f"{self._name(timing.dialler)}: {problem}")
        if len(timing.problems) == len(pair):
            self._give_up(pair, "; ".join(timing.problems))
            return
        [timing.dialler] = [node for node in pair if node != timing.dialler]
        timing.answers.clear()
        self._ask(pair, timing)

    def _conclude(self, pair: Pair, timing: _Timing) -> None:
        first, second = (timing.answers[node] for node in pair)
        way = _Way(
            max(first.round_trip_s, second.round_trip_s) / 2,
            min(first.out_bytes_per_s, second.in_bytes_per_s),
            min(second.out_bytes_per_s, first.in_bytes_per_s),
        )
        self._ways[pair] = way
        self._problems.pop(pair, None)
        log.info(
            "peer_ways.known one=%s other=%s latency_ms=%.2f there_mb_s=%.1f back_mb_s=%.1f",
            *(self._name(node) for node in pair),
            *(1e3 * way.latency_s, way.there_bytes_per_s / 1e6, way.back_bytes_per_s / 1e6),
        )
        self._end(pair)

    def _give_up(self, pair: Pair, problem: str) -> None:
        self._note_problem(pair, problem)
        self._end(pair)

    def _note_problem(self, pair: Pair, problem: str) -> None:
        """What was known of the way is not any more."""
        self._timings.pop(pair, None)
        self._ways.pop(pair, None)
        self._problems[pair] = problem
        log.warning(
            "peer_ways.not_timed one=%s other=%s problem=%s",
            *(self._name(node) for node in pair),
            problem,
        )

    def _end(self, pair: Pair) -> None:
        self._timings.pop(pair, None)
        self._turns.ended(pair, asyncio.get_running_loop().time())
        self._go_on()

    def _name(self, node: NodeId) -> str:
        member = self._members.get(node)
        return member.name if member is not None else node[:12]
