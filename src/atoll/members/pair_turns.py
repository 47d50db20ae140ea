"""Whose turn it is to time the way between them: no host or site twice at a time.

Pure: no clock or link. Pairs that share a machine or a line spoil each other's
figures, and those that measure their own speed are left alone. While the ring
serves there is one pair at a time. What was timed, or could not be, is not asked
for again soon.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from atoll.domain.ids import NodeId
from atoll.members.pairs import Pair, Place, near_pairs


class PairTurns:
    """Who times which way until when.

    Args:
        lease_s: How long a pair may take.
        again_s: After what time it is done again.
    """

    def __init__(self, lease_s: float, again_s: float) -> None:
        self._lease_s = lease_s
        self._again_s = again_s
        self._places: dict[NodeId, Place] = {}
        self._wanted: list[Pair] = []
        self._until_s: dict[Pair, float] = {}
        self._tried_s: dict[Pair, float] = {}

    def want(self, places: Iterable[Place]) -> None:
        """These nodes are in, at these places."""
        self._places = {place.node: place for place in places}
        self._wanted = near_pairs(list(self._places.values()))

    def left(self, node: NodeId) -> None:
        """A node is gone; nothing is remembered of its ways."""
        self._places.pop(node, None)
        self._wanted = [pair for pair in self._wanted if node not in pair]
        for memory in (self._until_s, self._tried_s):
            for pair in [p for p in memory if node in p]:
                del memory[pair]

    @property
    def is_settled(self) -> bool:
        """Whether every way was tried once."""
        return all(pair in self._tried_s for pair in self._wanted)

    def late(self, now_s: float) -> list[Pair]:
        """Take the turns of those that were too slow."""
        found = [pair for pair, until_s in self._until_s.items() if until_s <= now_s]
        for pair in found:
            self.ended(pair, now_s)
        return found

    def ended(self, pair: Pair, now_s: float) -> None:
        """A pair is done, with or without an answer."""
        if self._until_s.pop(pair, None) is not None:
            self._tried_s[pair] = now_s

    def next(self, now_s: float, *, busy: Collection[str], alone: bool) -> list[Pair]:
        """Give turns to pairs that are due.

        Args:
            now_s: The time.
            busy: Hosts that measure something else.
            alone: Whether one pair at a time is enough.
        """
        taken = set(busy)
        for pair in self._until_s:
            taken |= self._marks(pair)
        given = []
        for pair in self._wanted:
            if alone and self._until_s:
                break
            due = self._tried_s.get(pair, -math.inf) + self._again_s <= now_s
            marks = self._marks(pair)
            if due and pair not in self._until_s and not marks & taken:
                self._until_s[pair] = now_s + self._lease_s
                taken |= marks
                given.append(pair)
        return given

    def wake_at(self) -> float | None:
        """When to look again, if nothing happens before; None: no need to."""
        again = (self._tried_s[p] + self._again_s for p in self._wanted if p in self._tried_s)
        return min((*self._until_s.values(), *again), default=None)

    def _marks(self, pair: Pair) -> set[str]:
        """Machines and lines that a pair uses."""
        places = [self._places[node] for node in pair]
        return {p.host for p in places} | {f"at {p.site}" for p in places if p.site}
