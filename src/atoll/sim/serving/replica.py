"""A server, or a ring, as a simulation runs it: streams, steps, and what waits for room.

Between two events that change what a step does, steps are alike but for caches that grow:
such a phase is one event, however many tokens it makes. So a request costs a few events, not
one for each token. Streams of a server keep step; those of a pipeline follow each other, so that
its phases may end within a step.
"""

from __future__ import annotations

import math
from collections import deque
from heapq import heappop, heappush

from atoll.forecast.paces import Pace
from atoll.sim.serving.caches import BLOCK_TOKENS, PrefixCache
from atoll.sim.serving.streams import Stream

NEVER = math.inf
NEARLY = 1e-6
"""Of a step, or of a position: sums of parts are not exact."""


class Replica:
    """One system that serves the model.

    Args:
        pace: How fast it is.
        hands_over: It computes prompts alone, and hands streams over with their first token.
        takes_over: It gets streams with their caches.
        patience_s: So long a request waits for its first token to begin, no longer.
        cache: Keeps beginnings of prompts; None: they are computed each time.
    """

    def __init__(
        self,
        pace: Pace,
        *,
        hands_over: bool = False,
        takes_over: bool = False,
        patience_s: float = NEVER,
        cache: PrefixCache | None = None,
    ) -> None:
        self.pace = pace
        self.cache = cache
        self.patience_s = patience_s
        self.hands_over = hands_over
        self.takes_over = takes_over
        streams = min(pace.streams_max, 32)
        self.speed = streams * pace.tokens / max(1e-9, pace.step_s(streams))
        """Tokens a second with some streams: its weight for whoever deals out requests."""
        self.is_up = True
        self.resumes_s = 0.0
        """When a pause is over."""
        self.ends_s = NEVER
        """When the phase ends; it is to be told then."""
        self.version = 0
        """Of the phase: what was set for one that was cut short counts no more."""
        self.waiting: deque[Stream] = deque()
        self.outstanding = 0
        # What is known of a run.
        self.busy_s = self.streams_s = 0.0
        self.streams_peak = 0
        self.reused = 0
        """Positions of prompts that were in its caches."""
        self._prompts: deque[Stream] = deque()
        self._decoding: list[tuple[float, int, Stream]] = []
        self._order = 0
        self._is_fluid = pace.slowest_s is not None
        self._step = 0.0
        self._positions = 0.0
        self._room = 0.0
        self._began_s = 0.0
        self._planned = 0.0
        self._times = (0.0, 0.0)
        self._work: list[tuple[Stream, float]] = []

    @property
    def positions(self) -> float:
        """Cached positions of streams that decode."""
        return self._positions

    def submit(self, stream: Stream, now_s: float) -> None:
        """A stream comes; a phase that it can change is cut at the next step's end."""
        self.outstanding += 1
        self.waiting.append(stream)
        if not self.is_up or now_s < self.resumes_s:
            return
        if self.ends_s == NEVER:
            self._begin(now_s)
        elif not self._work and len(self.waiting) == 1 and self._has_room(stream):
            self._cut(now_s)

    def end_phase(self, now_s: float) -> list[Stream]:
        """The phase, or a pause, is over; begins the next.

        Returns:
            Streams that left: answered, handed over with tokens `left`, or without a first one,
            as they had waited too long.
        """
        gone: list[Stream] = []
        if self._planned:
            self._count(now_s)
            self._advance(self._planned, gone, now_s)
        self._drop_impatient(now_s, gone)
        self._begin(now_s)
        return gone

    def pause(self, now_s: float, seconds: float) -> None:
        """Nothing goes on for so long: steps that are not over begin again then."""
        self._stop(now_s)
        self.resumes_s = max(self.resumes_s, now_s + seconds)
        self.ends_s = self.resumes_s
        self.version += 1

    def give_up(self, now_s: float) -> list[Stream]:
        """The system is lost; its streams, in the order in which they came to decode or wait."""
        self._stop(now_s)
        left = [
            *(stream for _, _, stream in sorted(self._decoding)),
            *self._prompts,
            *self.waiting,
        ]
        for stream in left:
            if stream.finish:
                stream.left = self._tokens_left(stream)
                stream.made = stream.request.answer - stream.left
                stream.finish = 0.0
            stream.begin_again()
        self._decoding.clear()
        self._prompts.clear()
        self.waiting.clear()
        self.outstanding = 0
        self._positions = self._room = 0.0
        if self.cache is not None:
            self.cache.clear()
        self.is_up = False
        self.ends_s = NEVER
        self.version += 1
        return left

    def come_up(self, now_s: float) -> None:
        """The system is there again, with empty caches."""
        self.is_up = True
        self.resumes_s = now_s
        self._begin(now_s)

    # Phases

    def _begin(self, now_s: float) -> None:
        """Plan as many steps as are alike."""
        self.version += 1
        self._admit()
        self._work = []
        self._began_s = now_s
        pace, streams = self.pace, len(self._decoding)
        steps = self._decoding[0][0] - self._step if streams else 0.0
        if self._prompts:
            if self._is_fluid:
                steps, first = self._plan_windows(steps)
            else:
                steps, first = self._plan_prompts(steps)
        elif streams:
            first = pace.step_s(streams) + pace.caches_s(streams, self._positions)
        else:
            self._planned = 0.0
            self.ends_s = NEVER
            return
        last = first
        if steps > 1 and streams:
            more = streams * pace.tokens * (steps - 1)
            last += pace.caches_s(streams, self._positions + more)
            last -= pace.caches_s(streams, self._positions)
        self._planned = steps
        self._times = (first, last)
        self.ends_s = now_s + steps * (first + last) / 2

    def _admit(self) -> None:
        while self.waiting and self._has_room(self.waiting[0]):
            stream = self.waiting.popleft()
            self._room += stream.room
            if self.takes_over and stream.made:
                self._decode(stream)
                continue
            if self.cache is not None and stream.blocks:
                self._reuse(stream, self.cache)
            self._prompts.append(stream)

    def _drop_impatient(self, now_s: float, gone: list[Stream]) -> None:
        """Those who came first have waited longest."""
        while self.waiting and self.waiting[0].first_s < 0:
            if now_s - self.waiting[0].asked_s <= self.patience_s:
                return
            gone.append(self.waiting.popleft())
            self.outstanding -= 1

    def can_hold(self, stream: Stream) -> bool:
        """Whether it has memory for the whole request."""
        pace = self.pace
        return pace.shape.cached_positions(stream.prompt + stream.left) <= pace.room

    def _reuse(self, stream: Stream, cache: PrefixCache) -> None:
        """Spare a prompt what is kept; its last position is computed, as a token comes of it."""
        free = self.pace.room - self._room
        cache.bound_first(free / self.pace.shape.cached_positions(BLOCK_TOKENS))
        found, seconds = cache.find(stream.blocks)
        reused = min(found * BLOCK_TOKENS, stream.prompt - 1)
        stream.computed = float(reused)
        stream.copy_s = seconds
        self.reused += reused

    def _has_room(self, stream: Stream) -> bool:
        pace = self.pace
        if len(self._decoding) + len(self._prompts) >= pace.streams_max:
            return False
        answer = 0 if self.hands_over else stream.left
        stream.room = pace.shape.cached_positions(stream.prompt + answer)
        return self._room + stream.room <= pace.room

    def _plan_prompts(self, steps: float) -> tuple[float, float]:
        """Steps of a server with prompts, no more than `steps` unless that is 0, and seconds of
        the first.
        """
        pace, streams = self.pace, len(self._decoding)
        alone = pace.step_s(streams) + pace.caches_s(streams, self._positions)
        budget = float(pace.chunk[1] if streams else pace.chunk[0])
        head = self._prompts[0]
        left = head.prompt - head.computed
        if left >= budget:
            most = left // budget
            steps = min(steps, most) if steps else most
            self._work = [(head, steps * budget)]
            return steps, alone + pace.prompt_s(steps * budget, head.computed) / steps
        seconds = 0.0
        for stream in self._prompts:
            taken = min(budget, stream.prompt - stream.computed)
            seconds += pace.prompt_s(taken, stream.computed)
            self._work.append((stream, taken))
            budget -= taken
            if not budget:
                break
        return 1.0, alone + seconds

    def _plan_windows(self, steps: float) -> tuple[float, float]:
        """Steps of a pipeline with a prompt, no more than `steps` unless that is 0, and seconds of
        the first. A prompt's windows are computed while the slowest machine waits for others,
        as far as they fit, and hold up flights beyond that.
        """
        pace, streams = self.pace, len(self._decoding)
        head = self._prompts[0]
        left = head.prompt - head.computed
        needed_s = pace.prompt_s(left, head.computed)
        if not streams:
            self._work = [(head, left)]
            return 1.0, needed_s
        lap_s = pace.step_s(streams) + pace.caches_s(streams, self._positions)
        works_s = min(lap_s, pace.works_s(streams, self._positions))
        most_s = needed_s * min(1.0, pace.chunk[1] / left)
        idle_s = lap_s - works_s
        if needed_s <= idle_s:
            share, lasts_s = needed_s / idle_s if idle_s else 0.0, lap_s
        elif most_s <= idle_s:
            share, lasts_s = needed_s / most_s, lap_s
        else:
            share, lasts_s = needed_s / most_s, works_s + most_s
        # Where nothing is known of what machines compute, a prompt takes next to no time.
        share = max(share, NEARLY)
        taken = min(1.0, steps / share)
        self._work = [(head, left * taken)]
        return share * taken, lasts_s

    def _elapsed_s(self, steps: float) -> float:
        """Of the phase's first steps."""
        first, last = self._times
        if self._planned <= 1:
            return steps * first
        slope = (last - first) / (self._planned - 1)
        return steps * first + slope * steps * (steps - 1) / 2

    def _cut(self, now_s: float) -> None:
        """End the phase with the step that is going on; a pipeline's at once."""
        steps = self._steps_by(now_s)
        if not self._is_fluid and self._elapsed_s(steps) < now_s - self._began_s:
            steps += 1
        if steps >= self._planned:
            return
        first, _ = self._times
        elapsed_s = self._elapsed_s(steps)
        self._times = (first, first if steps <= 1 else 2 * elapsed_s / steps - first)
        self._planned = steps
        self.ends_s = now_s if self._is_fluid else max(now_s, self._began_s + elapsed_s)
        self.version += 1

    def _steps_by(self, now_s: float) -> float:
        """Steps of the phase that are over, whole ones of a server."""
        passed = now_s - self._began_s
        mean = sum(self._times) / 2
        if mean <= 0:
            return self._planned
        if self._is_fluid:
            return min(self._planned, passed / mean)
        steps = min(self._planned, passed // mean)
        while steps < self._planned and self._elapsed_s(steps + 1) <= passed:
            steps += 1
        while steps and self._elapsed_s(steps) > passed:
            steps -= 1
        return steps

    def _stop(self, now_s: float) -> None:
        """Keep what steps made that are over. The last one's end would be an event of its own: it
        has not come, so nobody is done yet.
        """
        if not self._planned:
            return
        self._count(now_s)
        steps = self._steps_by(now_s)
        if not self._is_fluid:
            steps = min(steps, self._planned - 1)
        share = min(steps / self._planned, 1 - 1e-9)
        self._work = [(stream, taken * share) for stream, taken in self._work]
        if steps > 0:
            self._advance(steps, [], now_s)
        self._planned = 0.0
        self._work = []

    def _count(self, now_s: float) -> None:
        lasted = now_s - self._began_s
        streams = len(self._decoding) + len(self._prompts)
        self.busy_s += lasted
        self.streams_s += lasted * streams
        self.streams_peak = max(self.streams_peak, streams)

    def _advance(self, steps: float, gone: list[Stream], now_s: float) -> None:
        """Let so many steps have been."""
        self._step += steps
        streams, tokens = len(self._decoding), self.pace.tokens
        self._positions += streams * steps * tokens
        while self._decoding and self._decoding[0][0] <= self._step + NEARLY:
            _, _, stream = heappop(self._decoding)
            self._positions -= stream.computed
            stream.left, stream.finish = 0, 0.0
            self._leave(stream, gone)
        if not self._decoding:
            self._positions = 0.0
        for stream, taken in self._work:
            stream.computed += taken
            if stream.computed >= stream.prompt - NEARLY:
                self._prompts.popleft()
                self._computed(stream, gone, now_s)
        self._planned = 0.0

    def _computed(self, stream: Stream, gone: list[Stream], now_s: float) -> None:
        """A prompt is computed, and with it the next token."""
        if stream.first_s < 0:
            stream.way_s = self.pace.way_s(stream.prompt, len(self._decoding))
            # Others go on while caches are copied.
            stream.way_s += stream.copy_s
            stream.first_s = now_s + stream.way_s
        if self.cache is not None and stream.blocks:
            self.cache.keep(stream.blocks)
        stream.left -= 1
        stream.made += 1
        if not stream.left or self.hands_over:
            self._leave(stream, gone)
        else:
            self._decode(stream)

    def _decode(self, stream: Stream) -> None:
        stream.prompt = stream.request.prompt + stream.made
        steps = stream.left / self.pace.tokens
        if not self._is_fluid:
            steps = float(math.ceil(steps))
        stream.finish = self._step + steps
        stream.computed = stream.prompt + steps * self.pace.tokens
        self._order += 1
        heappush(self._decoding, (stream.finish, self._order, stream))
        self._positions += stream.prompt

    def _tokens_left(self, stream: Stream) -> int:
        steps = stream.finish - self._step
        return max(1, min(stream.left, math.ceil(steps * self.pace.tokens)))

    def _leave(self, stream: Stream, gone: list[Stream]) -> None:
        self._room -= stream.room
        self.outstanding -= 1
        gone.append(stream)
