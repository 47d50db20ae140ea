"""Dispatch: which ring a request goes to, and whether it may come at all."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from atoll.api.backend import Demand
from atoll.domain.generation import GenerateRequest, Sampled
from atoll.gateway.deadlines import within
from atoll.gateway.options import RingOptions
from atoll.gateway.outlook import AnswerLengths, Prospect, check
from atoll.gateway.ring import Ring
from atoll.gateway.ring_driver import RingDriver
from atoll.gateway.routing import Load, Pace, first_to_finish, paces


class Dispatch:
    """Knows what the rings take and how long answers get.

    Args:
        rings: All that may stand side by side.
        options: How many streams run and wait in each.
    """

    def __init__(self, rings: Sequence[Ring], options: RingOptions) -> None:
        self._rings = rings
        self._options = options
        self._lengths = AnswerLengths()

    def check(self, demand: Demand) -> None:
        """Whether a request may come; where no ring serves that is not the question.

        Raises:
            Overloaded: It may not, and when it may come again.
        """
        prospects = [
            Prospect.of(driver, pace, demand, self._options) for pace, driver in self._serving()
        ]
        if prospects:
            check(demand, prospects, self._lengths)

    def choose(self, request: GenerateRequest) -> RingDriver | None:
        """The ring that will finish the request first; None: none serves."""
        serving = self._serving()
        if not serving:
            return None
        loads = [
            Load(
                *(pace, driver.active, driver.waiting, self._options.streams),
                cached=driver.cached(request),
            )
            for pace, driver in serving
        ]
        return serving[first_to_finish(loads, len(request.prompt), request.max_tokens)][1]

    async def watch(
        self, request: GenerateRequest, tokens: AsyncGenerator[Sampled, None]
    ) -> AsyncGenerator[Sampled, None]:
        """Yield a generation's tokens within its deadline, and learn how long it gets.

        Raises:
            DeadlineExceeded: Its time is over.
        """
        n_tokens = len(request.sampled)
        async with aclosing(within(request.deadline_s, tokens)) as watched:
            async for sampled in watched:
                n_tokens += 1
                if sampled.finish is not None:
                    self._lengths.note(n_tokens)
                yield sampled

    def _serving(self) -> list[tuple[Pace, RingDriver]]:
        """The rings that serve, and what they take."""
        serving = [(r.cast.report, r.driver) for r in self._rings if r.cast and r.driver]
        known = paces([(report, driver.laps.quick_s()) for report, driver in serving])
        return [(pace, driver) for pace, (_, driver) in zip(known, serving, strict=True)]
