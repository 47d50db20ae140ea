"""Outlook: what a request would have to expect now, and the objection to it if that is too much.

A request is turned away at once, with the time after which another try is worth it, where
the line of every ring is full, or where no ring would be done with it by its deadline. What
is foretold rests on what the rings were seen to take; where nothing was seen yet, or not
for a while by an idle ring, the request is let in: it is how the ring is seen.

Source: docs/adr/0024-admission.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from atoll.api.backend import Demand
from atoll.domain.errors import Overloaded
from atoll.domain.generation import GenerateRequest
from atoll.gateway.options import RingOptions
from atoll.gateway.ring_driver import RingDriver
from atoll.gateway.routing import Load, Pace, finish_s, step_s

ANSWER_TOKENS = 128
"""Length of an answer before any was seen."""
ANSWER_WEIGHT = 1 / 16
"""Of the latest answer in the mean length."""
STALE_S = 10.0
"""What an idle ring took is taken for what it takes so long; then one request may try it."""
RETRY_AFTER_S_MAX = 600


class AnswerLengths:
    """How long answers get: a running mean. What is asked for at most says little of it."""

    def __init__(self) -> None:
        self.mean = float(ANSWER_TOKENS)

    def note(self, tokens: int) -> None:
        """An answer came to its end."""
        self.mean += (tokens - self.mean) * ANSWER_WEIGHT

    def expected(self, request: GenerateRequest) -> int:
        """Tokens that the answer to a request will have."""
        if request.ignore_eos:
            return request.max_tokens
        return min(request.max_tokens, math.ceil(self.mean))


@dataclass(frozen=True, slots=True)
class Prospect:
    """What one ring holds for a request.

    Args:
        load: The ring; those that wait are those that would go before the request.
        room: Sessions that may still come: free slots and places in the line.
        yields: Somebody who waits would give way to the request.
        seen_s: How long ago its pace was seen last; infinite: never.
    """

    load: Load
    room: int
    yields: bool
    seen_s: float

    @classmethod
    def of(cls, driver: RingDriver, pace: Pace, demand: Demand, options: RingOptions) -> Prospect:
        """What a ring holds for a request as it stands.

        Args:
            driver: The ring.
            pace: What it takes.
            demand: The request.
            options: How many may run and wait.
        """
        place = (demand.group, demand.priority)
        cached = max((driver.cached(request) for request in demand.requests), default=0)
        slots = options.streams
        return cls(
            Load(pace, driver.active, driver.line.ahead(*place), slots, cached),
            room=max(0, slots - driver.active) + max(0, options.waiting - driver.waiting),
            yields=driver.line.yields(*place) is not None,
            seen_s=driver.laps.age_s,
        )

    @property
    def is_known(self) -> bool:
        """Whether what is foretold of it may turn somebody away."""
        idle = not (self.load.active or self.load.waiting)
        return self.seen_s < (STALE_S if idle else math.inf)


def check(demand: Demand, prospects: Sequence[Prospect], lengths: AnswerLengths) -> None:
    """Let a request come, or object.

    Args:
        demand: The request.
        prospects: The rings that serve; at least one.
        lengths: How long answers get.

    Raises:
        Overloaded: It cannot wait anywhere, or no ring would be done with it in time.
    """
    answers = max(1, len(demand.requests))
    open_ones = [p for p in prospects if p.room >= answers or p.yields]
    if not open_ones:
        waits_s = min(_next_place_s(p.load, lengths.mean) for p in prospects)
        raise Overloaded(
            "all answers that may be computed at once are, and no more requests may wait",
            hint="try again later",
            retry_after_s=_whole(waits_s),
        )
    deadline_s = demand.deadline_s
    if deadline_s is None or not all(p.is_known for p in open_ones):
        return
    done_s = min(_done_s(p.load, demand, lengths) for p in open_ones)
    if done_s > deadline_s:
        raise Overloaded(
            f"the request would be done in about {done_s:.3g} s, its deadline is in"
            f" {deadline_s:.3g} s",
            hint="try again later, ask for fewer tokens, or give it more time",
            retry_after_s=_whole(done_s - deadline_s),
        )


def _done_s(load: Load, demand: Demand, lengths: AnswerLengths) -> float:
    """Seconds until the last answer's last token; of a request not read yet, the least."""
    prompt = max((len(request.prompt) for request in demand.requests), default=0)
    tokens = max(map(lengths.expected, demand.requests), default=1)
    more = max(0, len(demand.requests) - 1)
    crowd = Load(load.pace, load.active, load.waiting + more, load.slots, min(load.cached, prompt))
    return finish_s(crowd, prompt, tokens, theirs=lengths.mean)


def _next_place_s(load: Load, mean: float) -> float:
    """Seconds until one of the answers that are computed ends, if they end evenly."""
    return step_s(load) * mean / load.slots


def _whole(seconds: float) -> int:
    return min(RETRY_AFTER_S_MAX, max(1, math.ceil(seconds)))
