"""How large the chunks are in which prompts enter a ring.

A prompt of P tokens in chunks of C rows is through once the last of them has gone
round, behind the others at the pace of whoever is busiest with a chunk, a node or a
link:

    (ceil(P / C) - 1) x pace(C) + lap(last)

With S stages alike, and links that cost little, that is (P / C + S - 1) x pace(C): the
filling of a pipeline (GPipe, arXiv:1811.06965). Small chunks have all stages at work
sooner; large ones share among more rows what a call costs besides them, a stage's
overhead and the reading of its weights. Both are in the times that were measured for
few rows and for many, so the least of that sum weighs one against the other. Where
all share one host's cores nothing overlaps, and a chunk's pace is its lap.

While others decode a chunk also keeps their windows waiting, at each stage for as long
as one call with it takes. So then it has the most rows with which

    held(C) = max(busiest node(C), slowest link(C)) <= max(hold_s, 2 x held(1))

Where a lone token takes long already, as it does where many weights are read for it,
more rows cost others little more, and few would keep the prompt from getting anywhere:
at least half of a chunk's call is to be its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

ROWS_MIN = 16
"""With fewer a prompt would pay for calls and frames before all."""
PROMPTS = (256, 1024, 4096)
"""Lengths of prompts that a chunk is to suit: on average over them, relative to the best."""
NEAR = 1.02
"""The smallest chunk is taken with which prompts take at most so much longer than with the best."""
OWN_TIMES = 2
"""While others decode a chunk may take so many times what a single row does, whatever the bound."""
IN_FLIGHT_MIN, IN_FLIGHT_MAX = 4, 32
"""Chunks of a session on their way; a hop has room for 32 besides decode windows."""

Seconds = Callable[[int], float]
"""What some rows take."""


@dataclass(frozen=True, slots=True)
class Chunks:
    """Rows of a prompt's chunks, and how many of them may be on their way.

    `beside_rows` are those of one while others decode, which takes the busiest node or
    link `beside_s`; 0: they are not smaller then.
    """

    rows: int
    beside_rows: int
    beside_s: float
    in_flight: int


@dataclass(frozen=True, slots=True)
class ChunkCosts:
    """What a chunk of so many rows takes, seconds.

    `lap_s` is once round the ring, `pace_s` how long after it the next one can be through,
    `held_s` the longest time at one node or on one link.
    """

    lap_s: Seconds
    pace_s: Seconds
    held_s: Seconds

    def enter_s(self, prompt: int, rows: int) -> float:
        """How long a prompt takes in chunks of so many rows, on an idle ring."""
        behind, last = divmod(prompt - 1, rows)
        pace_s = self.pace_s(rows) if behind else 0.0
        return behind * pace_s + self.lap_s(last + 1)


def choose_chunks(
    costs: ChunkCosts, *, rows_max: int, context: int, hold_s: float, fixed: bool = False
) -> Chunks:
    """The chunks that suit a ring.

    Args:
        costs: What chunks take there.
        rows_max: Most rows of a chunk.
        context: Most tokens of a prompt.
        hold_s: How long a chunk may take a node or link while others decode, unless a
            single row takes long itself; 0: as long as it does.
        fixed: Have chunks of `rows_max` rows where nobody decodes.
    """
    sizes = list(_sizes(rows_max))
    rows = rows_max if fixed else _quickest(costs, sizes, context)
    beside = 0
    if hold_s:
        most_s = max(hold_s, OWN_TIMES * costs.held_s(1))
        fits = [size for size in sizes if size <= rows and costs.held_s(size) <= most_s]
        beside = max(fits, default=min(sizes[0], rows))
    flights = math.ceil(costs.lap_s(rows) / costs.pace_s(rows)) + 1
    return Chunks(
        rows=rows,
        beside_rows=beside,
        beside_s=costs.held_s(beside) if beside else 0.0,
        in_flight=max(IN_FLIGHT_MIN, min(IN_FLIGHT_MAX, flights)),
    )


def _sizes(rows_max: int) -> Iterator[int]:
    """Numbers of rows that are tried, rising: powers of two and what lies between them."""
    size = ROWS_MIN
    while size < rows_max:
        yield size
        if size + size // 2 < rows_max:
            yield size + size // 2
        size *= 2
    yield rows_max


def _quickest(costs: ChunkCosts, sizes: Sequence[int], context: int) -> int:
    """The size with which prompts enter about as soon as they can."""
    prompts = sorted({min(prompt, context) for prompt in PROMPTS})
    times = [[costs.enter_s(prompt, size) for prompt in prompts] for size in sizes]
    best = [min(column) for column in zip(*times, strict=True)]
    scores = [sum(t / b for t, b in zip(row, best, strict=True)) for row in times]
    most = min(scores) * NEAR
    return next(size for size, score in zip(sizes, scores, strict=True) if score <= most)
