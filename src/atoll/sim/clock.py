"""The simulator's time: a heap of events, equal times in the order they were set."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

E = TypeVar("E")

LAST_MAX = 40
"""Events that are remembered for whoever asks how it came to this."""


class EventHeap(Generic[E]):
    """Events by time; iterating takes them out, moves `now_s` along and counts `taken`."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.taken = 0
        self.last: deque[tuple[float, E]] = deque(maxlen=LAST_MAX)
        self._order = 0
        self._heap: list[tuple[float, int, E]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, at_s: float, event: E) -> None:
        """Set `event` for `at_s`.

        Raises:
            ValueError: `at_s` has passed.
        """
        if at_s < self.now_s:
            raise ValueError(f"{at_s} s is before now, {self.now_s} s")
        heapq.heappush(self._heap, (at_s, self._order, event))
        self._order += 1

    def __iter__(self) -> Iterator[E]:
        while self._heap:
            self.now_s, _, event = heapq.heappop(self._heap)
            self.taken += 1
            self.last.append((self.now_s, event))
            yield event


class FifoLink:
    """Arrival times on a link that delays each frame by chance and keeps their order."""

    def __init__(self) -> None:
        self._last_s = 0.0

    def arrival_s(self, now_s: float, delay_s: float) -> float:
        """When a frame sent now with this delay arrives: never before an earlier one."""
        self._last_s = max(self._last_s, now_s + delay_s)
        return self._last_s
