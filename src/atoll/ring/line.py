"""The line of sessions that wait for a slot: who is next, and who gives way where it is full.

Sessions stand in one lane for each key and priority. Of the lanes with the highest
priority the one goes next that was served longest ago, so that a key's hundred requests do
not stand before another's one. A lane that is passed over gains a priority for every
`PATIENCE` sessions that go before it: low ones wait longer, but not for ever. Time is
counted in admissions, as the ring's own speed is what waiting is measured by.

Source: docs/adr/0024-admission.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from atoll.ring.coordinator_messages import Submit

PATIENCE = 8
"""Admissions of others that a lane lets pass before it counts as one priority higher."""
LANES_REMEMBERED_MAX = 4096
"""Lanes without sessions whose last turn is remembered."""


@dataclass(slots=True, eq=False)
class _Lane:
    """Sessions of one key and priority, oldest first."""

    group: str
    priority: int
    since: int
    """The turn from which on it waits: it was served, or its first session came."""
    number: int
    """Lanes are numbered in the order of their coming."""
    sessions: deque[Submit] = field(default_factory=deque)


class Line:
    """Sessions in the order in which they are to be admitted; of a deque it has what is used."""

    def __init__(self) -> None:
        self._first: deque[Submit] = deque()
        self._lanes: dict[tuple[str, int], _Lane] = {}
        self._served: dict[tuple[str, int], int] = {}
        self._turn = 0
        self._came = 0

    def __len__(self) -> int:
        return len(self._first) + sum(len(lane.sessions) for lane in self._lanes.values())

    def __iter__(self) -> Iterator[Submit]:
        yield from self._first
        for lane in self._lanes.values():
            yield from lane.sessions

    def append(self, submit: Submit) -> None:
        """A session waits from now on."""
        key = _key(submit)
        lane = self._lanes.get(key)
        if lane is None:
            self._came += 1
            lane = self._lanes[key] = _Lane(*key, since=self._turn, number=self._came)
        lane.sessions.append(submit)

    def appendleft(self, submit: Submit) -> None:
        """A session that was admitted before goes before all others."""
        self._first.appendleft(submit)

    def head(self) -> Submit:
        """Who is next; the same until the line changes.

        Raises:
            IndexError: Nobody waits.
        """
        if self._first:
            return self._first[0]
        return self._next_lane().sessions[0]

    def popleft(self) -> Submit:
        """Take who is next out of the line: it has its slot.

        Raises:
            IndexError: Nobody waits.
        """
        if self._first:
            return self._first.popleft()
        lane = self._next_lane()
        submit = lane.sessions.popleft()
        self._turn += 1
        lane.since = self._turn
        self._note_served(_key(submit))
        self._close_if_empty(lane)
        return submit

    def remove(self, submit: Submit) -> None:
        """A session waits no more, and has no slot.

        Raises:
            ValueError: It does not wait.
        """
        lane = self._lanes.get(_key(submit))
        if lane is not None and submit in lane.sessions:
            lane.sessions.remove(submit)
            self._close_if_empty(lane)
        else:
            self._first.remove(submit)

    def clear(self) -> None:
        """Nobody waits any more."""
        self._first.clear()
        self._lanes.clear()

    def ahead(self, group: str, priority: int) -> int:
        """About how many go before a session that came now: all that are not behind it.

        Of its own lane all do; of others of its priority as many as of its own, as they take
        turns; of lower ones none, though a few may have waited long enough.
        """
        own = self._lanes.get((group, priority))
        turns = (len(own.sessions) if own else 0) + 1
        count = len(self._first)
        for lane in self._lanes.values():
            if lane is own or lane.priority > priority:
                count += len(lane.sessions)
            elif lane.priority == priority:
                count += min(len(lane.sessions), turns)
        return count

    def yields(self, group: str, priority: int) -> Submit | None:
        """Who gives way to a newcomer where the line is full; None: the newcomer itself.

        It is the last of the longest lane of the lowest priority, if that is lower than the
        newcomer's, or the lane longer than the newcomer's would be. So a key may fill the line
        while it is alone, and cannot keep others out of it.
        """
        if not self._lanes:
            return None
        lane = min(self._lanes.values(), key=lambda at: (at.priority, -len(at.sessions)))
        own = self._lanes.get((group, priority))
        longer = len(lane.sessions) > (len(own.sessions) if own else 0) + 1
        if lane.priority < priority or (lane.priority == priority and longer):
            return lane.sessions[-1]
        return None

    def _next_lane(self) -> _Lane:
        if not self._lanes:
            raise IndexError("nobody waits")
        return min(self._lanes.values(), key=self._rank)

    def _rank(self, lane: _Lane) -> tuple[int, int, int]:
        """The lowest is next."""
        passed = self._turn - lane.since
        level = lane.priority + passed // PATIENCE
        served = self._served.get((lane.group, lane.priority), -1)
        return -level, served, lane.number

    def _note_served(self, key: tuple[str, int]) -> None:
        self._served.pop(key, None)
        self._served[key] = self._turn
        if len(self._served) > LANES_REMEMBERED_MAX:
            # The oldest: to be forgotten is to be taken for one that was never served.
            del self._served[next(iter(self._served))]

    def _close_if_empty(self, lane: _Lane) -> None:
        if not lane.sessions:
            del self._lanes[lane.group, lane.priority]


def _key(submit: Submit) -> tuple[str, int]:
    return submit.request.group, submit.request.priority
