"""How fast a system works through many streams at once, as a simulation asks it.

A step gives every stream that decodes one token, and computes a bounded number of prompts'
positions beside (continuous batching, Yu et al., Orca, OSDI 2022; chunked prefill, Agrawal et
al., arXiv:2403.02310). Its time is taken apart into what depends on the number of streams, on
the cached positions that they look back at, and on the prompts' positions:

    step = fixed(streams) + cached x position_s + operations of prompts x operation_s

Each kind of system fills these in from its own cost model: `server_paces`, `ring_paces`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from atoll.forecast.shapes import ModelShape


@dataclass(slots=True)
class Pace:
    """One system's times for one model, seconds.

    Args:
        shape: The model.
        fixed_s: Of a step with so many streams, one at least, without their caches.
        position_s: To read one cached position of one layer; a step reads those of all layers.
        operation_s: Of one operation for a prompt, while it holds up the step.
        chunk: Prompts' positions that a step computes at most, alone and beside streams; a
            pipeline gets as many windows of them as there are flights.
        room: Positions that there is memory for.
        streams_max: Streams at once.
        first_s: From the step that computed a prompt's end to its first token at the user's.
        fill_s: That a position of a prompt's last window takes on the other machines of a pipeline.
        flights: Parts of the streams that follow each other through a pipeline.
        slowest_s: Of such a step, how long the slowest part of a pipeline works; None: as long as
            it takes. While it does not, it can compute prompts.
        tokens: That a step gives a stream, on average: more than one where drafts are right.
        watts: While it works, and while it waits.
        hourly: US dollars an hour, 0: not known.
    """

    shape: ModelShape
    fixed_s: Callable[[int], float]
    position_s: float
    operation_s: float
    chunk: tuple[int, int]
    room: float
    streams_max: int
    first_s: float
    fill_s: float = 0.0
    flights: int = 1
    slowest_s: Callable[[int], float] | None = None
    tokens: float = 1.0
    watts: tuple[float, float] = (0.0, 0.0)
    hourly: float = 0.0
    _fixed: dict[int, float] = field(default_factory=dict, init=False)
    _slowest: dict[int, float] = field(default_factory=dict, init=False)
    _flops: dict[int, float] = field(default_factory=dict, init=False)

    def step_s(self, streams: int) -> float:
        """Of a step with so many streams, without their caches; none takes no time."""
        found = self._fixed.get(streams)
        if found is None:
            found = self._fixed[streams] = self.fixed_s(streams) if streams else 0.0
        return found

    def caches_s(self, streams: int, positions: float) -> float:
        """To read the caches of so many streams, which hold so many positions together."""
        if not streams:
            return 0.0
        each = self.shape.cached_positions(positions / streams) * self.position_s
        return each * streams / min(streams, self.flights)

    def works_s(self, streams: int, positions: float) -> float:
        """Of such a step, how long the slowest part of a pipeline works."""
        if self.slowest_s is None or not streams:
            return self.step_s(streams) + self.caches_s(streams, positions)
        works = self._slowest.get(streams)
        if works is None:
            works = self._slowest[streams] = self.slowest_s(streams)
        return works + self.caches_s(streams, positions)

    def prompt_s(self, tokens: float, start: float = 0.0) -> float:
        """Of a step for so many positions of a prompt, of which `start` are computed."""
        middle = int(start + tokens / 2)
        flops = self._flops.get(middle)
        if flops is None:
            flops = self._flops[middle] = self.shape.token_flops(middle)
        return tokens * flops * self.operation_s

    def way_s(self, prompt: float, streams: int = 0) -> float:
        """From the end of the step that computed a prompt's last position to its first token,
        with so many streams beside it.
        """
        if not self.fill_s:
            return self.first_s
        window = (self.chunk[1] if streams else self.chunk[0]) / self.flights
        return self.first_s + self.fill_s * min(prompt, window)
