"""Which rows may share one engine call, and in which order.

llama.cpp reorders the rows of a call when the sequences in it are not
consecutive or bring unequal numbers of rows (`llama_batch_allocr::split_equal`
in src/llama-batch.cpp), and reads one past its micro-batch in several pieces.
A call laid out here comes back row for row as it went in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

EXACT_ROWS_MAX = 63
"""From 64 rows of one sequence in a call another kernel computes other bits."""


@dataclass(frozen=True, slots=True)
class Span:
    """Rows of one slot that are to be computed: positions [keep, keep + rows)."""

    slot: int
    keep: int
    rows: int


def lay_out(spans: Sequence[Span], rows_max: int) -> list[list[int]]:
    """Group spans into legal calls.

    Args:
        spans: At most one per slot.
        rows_max: Most rows in a call (the context's micro-batch).

    Returns:
        Calls as lists of indices into `spans`; in each, slots are consecutive
        and ascending, row counts are equal, and the sum is at most `rows_max`.

    Raises:
        ValueError: A slot comes twice, or a span alone is over `rows_max`.
    """
    order = sorted(range(len(spans)), key=lambda i: (spans[i].rows, spans[i].slot))
    calls: list[list[int]] = []
    seen: set[int] = set()
    for i in order:
        span = spans[i]
        if span.slot in seen:
            raise ValueError(f"slot {span.slot} comes twice in one batch")
        if not 0 < span.rows <= rows_max:
            raise ValueError(f"{span.rows} rows are not between 1 and {rows_max}")
        seen.add(span.slot)
        if calls:
            call = calls[-1]
            last = spans[call[-1]]
            fits = (len(call) + 1) * span.rows <= rows_max
            if fits and last.rows == span.rows and last.slot + 1 == span.slot:
                call.append(i)
                continue
        calls.append([i])
    return calls
