"""A run: requests come, systems work, machines leave and come, until all is answered.

One heap of events under one seed: the same seed gives the same run.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from heapq import heappop, heappush

from atoll.sim.serving.dealer import Dealer
from atoll.sim.serving.pools import FORM_S, Pool
from atoll.sim.serving.replica import NEVER, Replica
from atoll.sim.serving.requests import Request
from atoll.sim.serving.streams import Stream
from atoll.sim.serving.tally import Tally

Happening = Callable[[], None]
DAY_S = 24 * 3600.0
"""So long after the last request a run ends, whatever is not done."""
LOSSES_MAX = 100
"""A stream whose system was lost more often would not come to an end."""
HEARD_EVERY = 10_000
"""Requests between two words on how far a run is."""


class ServingRun:
    """One run over pools of systems.

    Args:
        pools: The systems, by kind.
        requests: In the order in which they come.
        seed: Decides what chance does to machines.
        cell_s: Seconds to hand one prompt's position from a system that computes prompts to
            one that goes on.
        heard: Told the time and how many requests have come, now and then.
    """

    def __init__(
        self,
        pools: list[Pool],
        requests: Iterable[Request],
        *,
        seed: int = 0,
        cell_s: float = 0.0,
        heard: Callable[[float, int], None] | None = None,
    ) -> None:
        self.pools = pools
        self.tally = Tally()
        self.now_s = 0.0
        self.last_s = 0.0
        """When the last answer ended."""
        self._requests: Iterator[Request] = iter(requests)
        self._rng = random.Random(seed)  # noqa: S311 - a replayable run, nothing secret
        self._cell_s = cell_s
        self._heard = heard or (lambda _now_s, _count: None)
        replicas = [replica for pool in pools for replica in pool.replicas]
        self._entry = Dealer(r for r in replicas if not r.takes_over)
        self._second = Dealer(r for r in replicas if r.takes_over)
        self._of = {id(r): pool for pool in pools for r in pool.replicas}
        self._heap: list[tuple[float, int, Replica | Happening, int]] = []
        self._order = 0
        self._out = 0
        """Requests that are neither answered nor failed."""
        self._leaving = [0] * len(pools)
        # Without a system: those to begin, and those that were handed over.
        self._homeless: dict[bool, deque[Stream]] = {False: deque(), True: deque()}
        self._down_since: dict[int, float] = {}
        self.down_s: dict[int, float] = {}

    def run(self) -> Tally:
        """Let everything happen."""
        for at in range(len(self.pools)):
            self._set_leave(at)
        coming = next(self._requests, None)
        heap, count, last_s = self._heap, 0, 0.0
        while coming is not None or self._out:
            if coming is not None and (not heap or coming.at_s <= heap[0][0]):
                self.now_s = last_s = coming.at_s
                self._out += 1
                self._deal(Stream(coming))
                count += 1
                if not count % HEARD_EVERY:
                    self._heard(self.now_s, count)
                coming = next(self._requests, None)
                continue
            if not heap or (coming is None and heap[0][0] > last_s + DAY_S):
                break
            self.now_s, _, what, version = heappop(heap)
            if isinstance(what, Replica):
                if what.version == version:
                    self._end_phase(what)
            else:
                what()
        self._end()
        return self.tally

    def _end(self) -> None:
        """Count what is left over, and time up to now."""
        for waiting in self._homeless.values():
            for stream in waiting:
                self._fail(stream, "no system was up")
            waiting.clear()
        if self._out:
            self.tally.failed["not done within a day"] += self._out
            self._out = 0
        for pool in self.pools:
            pool.pass_time(self.now_s)
            for replica in pool.down:
                self._count_down(replica)

    # Requests

    def _deal(self, stream: Stream, *, second: bool = False) -> None:
        dealer = self._second if second else self._entry
        replica = dealer.choose(stream)
        if replica is None:
            if not self._can_ever_hold(stream, second):
                self._fail(stream, "too long for any system")
            else:
                self._homeless[second].append(stream)
            return
        version = replica.version
        replica.submit(stream, self.now_s)
        if replica.version != version:
            self._set_phase(replica)
        dealer.changed(replica)

    def _can_ever_hold(self, stream: Stream, second: bool) -> bool:
        return any(
            replica.can_hold(stream)
            for pool in self.pools
            for replica in pool.replicas
            if replica.takes_over == second
        )

    def _end_phase(self, replica: Replica) -> None:
        gone = replica.end_phase(self.now_s)
        self._set_phase(replica)
        for stream in gone:
            if stream.first_s < 0:
                self._fail(stream, "waited too long")
            elif stream.left:
                self._hand_over(stream)
            else:
                self._answered(stream)
        if gone:
            (self._second if replica.takes_over else self._entry).changed(replica)

    def _answered(self, stream: Stream) -> None:
        self._out -= 1
        request = stream.request
        end_s = self.now_s + stream.way_s
        self.last_s = max(self.last_s, end_s)
        self.tally.prompts += request.prompt
        self.tally.answered(request.at_s, stream.first_s, end_s, request.answer)

    def _fail(self, stream: Stream, why: str) -> None:
        self._out -= 1
        self.tally.failed[why] += 1
        del stream

    def _hand_over(self, stream: Stream) -> None:
        self.tally.events["caches handed over"] += 1
        at_s = self.now_s + stream.prompt * self._cell_s
        self._put(at_s, lambda: self._deal(stream, second=True))

    # Machines

    def _set_leave(self, at: int) -> None:
        """Set when the next machine of a pool leaves; what was set before counts no more."""
        self._leaving[at] += 1
        version = self._leaving[at]
        seconds = self.pools[at].next_leave_s(self._rng)
        if seconds < NEVER:
            self._put(self.now_s + seconds, lambda: self._leave(at, version))

    def _leave(self, at: int, version: int) -> None:
        if self._leaving[at] != version:
            return
        pool, events = self.pools[at], self.tally.events
        pool.pass_time(self.now_s)
        events["machines left"] += 1
        replica = pool.hit(self._rng)
        back_s = self._rng.expovariate(1 / pool.back_s) if pool.back_s else 0.0
        self._put(self.now_s + back_s, lambda: self._come(at))
        if replica is None:
            self._lose_spare(pool)
        elif pool.spares:
            pool.spares -= 1
            events["taken over"] += 1
            events["streams paused"] += replica.outstanding
            replay_s = replica.pace.prompt_s(replica.positions) if replica.positions else 0.0
            replica.pause(self.now_s, pool.takeover_s + replay_s)
            self._set_phase(replica)
        else:
            self._dissolve(pool, replica)
        self._set_leave(at)

    def _lose_spare(self, pool: Pool) -> None:
        if pool.spares:
            pool.spares -= 1
            return
        # It was one of a ring that forms: the others wait for another.
        pool.forming -= 1
        pool.spares += pool.size - 1

    def _dissolve(self, pool: Pool, replica: Replica) -> None:
        events = self.tally.events
        left = replica.give_up(self.now_s)
        pool.down.append(replica)
        pool.spares += pool.size - 1
        self._down_since[id(replica)] = self.now_s
        events["systems lost"] += 1
        events["streams that began again"] += len(left)
        self._form(pool)
        for stream in left:
            if stream.losses > LOSSES_MAX:
                self._fail(stream, "lost its system too often")
            else:
                self._deal(stream)

    def _come(self, at: int) -> None:
        pool = self.pools[at]
        pool.pass_time(self.now_s)
        pool.spares += 1
        self.tally.events["machines came"] += 1
        self._form(pool)
        self._set_leave(at)

    def _form(self, pool: Pool) -> None:
        """Form a system where machines for one stand by."""
        if len(pool.down) > pool.forming and pool.spares >= pool.size:
            pool.spares -= pool.size
            pool.forming += 1
            seconds = FORM_S if pool.size > 1 else pool.takeover_s
            self._put(self.now_s + seconds, lambda: self._formed(pool))

    def _formed(self, pool: Pool) -> None:
        if not pool.forming:
            return
        pool.forming -= 1
        replica = pool.down.pop(0)
        self._count_down(replica)
        self.tally.events["systems formed"] += 1
        replica.come_up(self.now_s)
        self._set_phase(replica)
        second = replica.takes_over
        (self._second if second else self._entry).changed(replica)
        waiting, self._homeless[second] = self._homeless[second], deque()
        for stream in waiting:
            self._deal(stream, second=second)

    def _count_down(self, replica: Replica) -> None:
        since = self._down_since.pop(id(replica), self.now_s)
        self.down_s[id(replica)] = self.down_s.get(id(replica), 0.0) + self.now_s - since

    # Events

    def _set_phase(self, replica: Replica) -> None:
        if replica.ends_s < NEVER:
            self._order += 1
            heappush(self._heap, (replica.ends_s, self._order, replica, replica.version))

    def _put(self, at_s: float, what: Happening) -> None:
        self._order += 1
        heappush(self._heap, (at_s, self._order, what, 0))
