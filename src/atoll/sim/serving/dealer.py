"""Who gets a request: the system where it is likely to be done soonest."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush

from atoll.sim.serving.replica import Replica
from atoll.sim.serving.streams import Stream

BUSIER = 2.0
"""How many times as busy as the least busy one a system may be, to be chosen for its caches."""


class Dealer:
    """Deals out streams by how many each system has, relative to how fast it is.

    Args:
        replicas: The systems.
    """

    def __init__(self, replicas: Iterable[Replica]) -> None:
        self._heap: list[tuple[float, int, Replica]] = []
        self._all = list(replicas)
        self._keys: dict[int, float] = {}
        self._kept_by: dict[int, Replica] = {}
        for order, replica in enumerate(self._all):
            key = self._load(replica)
            self._keys[order] = key
            self._heap.append((key, order, replica))
        self._orders = {id(replica): order for order, replica in enumerate(self._all)}
        heapify(self._heap)

    @staticmethod
    def _load(replica: Replica) -> float:
        return (replica.outstanding + 1) / replica.speed

    def changed(self, replica: Replica) -> None:
        """Its streams are more, or fewer, or it came up; to be told each time."""
        order = self._orders.get(id(replica))
        if order is None or not replica.is_up:
            return
        key = self._load(replica)
        if self._keys.get(order) != key:
            self._keys[order] = key
            heappush(self._heap, (key, order, replica))

    def choose(self, stream: Stream) -> Replica | None:
        """The system for a stream; None: none that is up can hold it.

        Where its beginning is kept, that one is chosen unless it is much busier than another.
        """
        found = self._least_busy(stream)
        if found is None or not stream.blocks:
            return found
        keeper = self._keeper(stream)
        if keeper is not None and self._load(keeper) <= BUSIER * self._load(found):
            found = keeper
        for block in stream.blocks:
            self._kept_by[block] = found
        return found

    def _keeper(self, stream: Stream) -> Replica | None:
        """The system that last got a prompt with the same beginning, the longest there is."""
        keeper = None
        for block in stream.blocks:
            known = self._kept_by.get(block)
            if known is None:
                break
            keeper = known
        return keeper if keeper is not None and self._can(keeper, stream) else None

    @staticmethod
    def _can(replica: Replica, stream: Stream) -> bool:
        return replica.is_up and replica.can_hold(stream)

    def _least_busy(self, stream: Stream) -> Replica | None:
        heap, passed = self._heap, []
        found = None
        while heap:
            key, order, replica = heap[0]
            if self._keys.get(order) != key or not replica.is_up:
                heappop(heap)
                if not replica.is_up:
                    self._keys.pop(order, None)
                continue
            if self._can(replica, stream):
                found = replica
                break
            passed.append(heappop(heap))
        for entry in passed:
            heappush(heap, entry)
        return found
