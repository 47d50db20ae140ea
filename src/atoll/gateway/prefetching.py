"""Has the shards of a ring to come on its nodes' disks while the present ring serves.

Nodes say how far they are; who brings too little in a bounded time is given up,
and with it the ring. What they say is not proof: the stage checks its shard's hash
when it loads it, and one that is not there is fetched then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from atoll.domain.control import Lend, NotPrefetched, Prefetch, Prefetched, Prefetching
from atoll.domain.errors import RingDown
from atoll.gateway.ring_plan import sources_for
from atoll.members.fleet import Fleet
from atoll.members.member import Member
from atoll.model.manifest import Manifest, ShardEntry
from atoll.net.link import peer_text

log = logging.getLogger(__name__)

PATIENCE_S = 120.0
"""How long a node may bring less than a step."""
STEPS = 1024
"""Steps of a shard: together with the patience a bound on how long a fetch can be drawn out."""
CHECK_BYTES_PER_S = 50e6
"""A slow disk, read to be hashed: before a shard's bytes come and after they are here."""
TELL_S = 30.0
TEXT_CHARS_MAX = 300


@dataclass(slots=True)
class _Order:
    """A shard that a node is to fetch."""

    member: Member
    entry: ShardEntry
    number: int
    deadline_s: float
    here_bytes: int = 0
    counted_bytes: int = 0

    @property
    def patience_s(self) -> float:
        return PATIENCE_S + self.entry.size_bytes / CHECK_BYTES_PER_S

    def note(self, here_bytes: int, now_s: float) -> None:
        """So much is here; a step more than what was counted is another while of patience."""
        self.here_bytes = min(here_bytes, self.entry.size_bytes)
        if self.here_bytes - self.counted_bytes >= max(1, self.entry.size_bytes // STEPS):
            self.counted_bytes = self.here_bytes
            self.deadline_s = now_s + self.patience_s


class Prefetcher:
    """Asks nodes for shards ahead, and waits until they have them.

    Args:
        fleet: All nodes.
        manifest: The model.
        tell: Takes one line at a time for the operator to read.
    """

    def __init__(self, fleet: Fleet, manifest: Manifest, *, tell: Callable[[str], None]) -> None:
        self._fleet = fleet
        self._manifest = manifest
        self._tell = tell
        self._tell_at_s = 0.0

    @staticmethod
    def missing(
        members: Sequence[Member], entries: Sequence[ShardEntry]
    ) -> list[tuple[Member, ShardEntry]]:
        """Which nodes are not known to have their shard of a ring."""
        return [
            (member, entry)
            for member, entry in zip(members, entries, strict=True)
            if (entry.first, entry.last) not in member.holds
        ]

    async def fetch(self, members: Sequence[Member], entries: Sequence[ShardEntry]) -> None:
        """Wait until each of `members` has its shard of `entries`; at once if all have.

        Raises:
            RingDown: One of them cannot have it; it is named.
        """
        missing = self.missing(members, entries)
        if not missing:
            return
        names = ", ".join(member.name for member, _ in missing)
        size = sum(entry.size_bytes for _, entry in missing)
        self._tell(f"fetching {_mib(size)} for a better ring: {names}")
        now_s = asyncio.get_running_loop().time()
        self._tell_at_s = now_s + TELL_S
        orders = [self._ask(member, entry, now_s) for member, entry in missing]
        waiting = orders
        while waiting := [order for order in waiting if not self._is_done(order)]:
            self._tell_progress(orders)
            deadline_s = min(order.deadline_s for order in waiting)
            try:
                async with asyncio.timeout_at(min(deadline_s, self._tell_at_s)):
                    await self._fleet.wait_news()
            except TimeoutError:
                self._check_deadlines(waiting)
        self._tell(f"{_mib(size)} for a better ring are fetched")

    def _ask(self, member: Member, entry: ShardEntry, now_s: float) -> _Order:
        member.prefetches += 1
        order = _Order(member, entry, member.prefetches, 0.0)
        order.deadline_s = now_s + order.patience_s
        model = self._manifest.model
        lenders = self._fleet.everybody
        sources = sources_for(member, (entry.first, entry.last), lenders)
        for source in sources:
            lend = Lend(member.link.peer, model, entry.first, entry.last)
            self._fleet.send(source.node, lend)
        member.link.send(
            Prefetch(
                number=order.number,
                model=model,
                n_layers=self._manifest.n_layers,
                data_offset=self._manifest.data_offset,
                first=entry.first,
                last=entry.last,
                shard=entry.shard,
                size_bytes=entry.size_bytes,
                sources=sources,
            )
        )
        return order

    def _is_done(self, order: _Order) -> bool:
        """Whether a node has its shard; it may have said so, or something else."""
        member, entry, said = order.member, order.entry, order.member.prefetch
        if not any(one is member for one in self._fleet.everybody):
            raise RingDown(f"{member.name} left while it fetched its layers")
        if said is None or said.number != order.number:
            return False
        match said:
            case Prefetched():
                member.holds.add((entry.first, entry.last))
                log.info("prefetching.done node=%s size=%d", member.name, entry.size_bytes)
                order.here_bytes = entry.size_bytes
                return True
            case NotPrefetched(_, problem):
                problem = peer_text(problem, TEXT_CHARS_MAX)
                raise RingDown(f"{member.name} cannot fetch its layers: {problem}")
            case Prefetching(_, here_bytes):
                order.note(here_bytes, asyncio.get_running_loop().time())
        return False

    @staticmethod
    def _check_deadlines(waiting: Sequence[_Order]) -> None:
        now_s = asyncio.get_running_loop().time()
        for order in waiting:
            if order.deadline_s <= now_s:
                raise RingDown(
                    f"{order.member.name} got no further with its layers within"
                    f" {order.patience_s:.0f} s: {_mib(order.here_bytes)} of"
                    f" {_mib(order.entry.size_bytes)} are there"
                )

    def _tell_progress(self, orders: Sequence[_Order]) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._tell_at_s:
            self._tell_at_s = now_s + TELL_S
            here = sum(order.here_bytes for order in orders)
            size = sum(order.entry.size_bytes for order in orders)
            self._tell(f"fetching for a better ring: {_mib(here)} of {_mib(size)}")


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.1f} MiB"
