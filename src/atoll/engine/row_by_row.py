"""Engine calls of one row each, for exact rows where calls of several have other bits.

A row's bits are then those it would have alone, whatever it is computed beside: chunks of
any size, drafts, merged sessions and replays all come to the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from atoll.engine.batch import Span
from atoll.engine.codec import Rows


class _OneRow(Protocol):
    """What is needed of a `Context`."""

    def inputs(self, n: int) -> Rows: ...

    def hidden(self, spans: list[Span], *, exact: bool = False) -> Rows: ...

    def logits(
        self, spans: list[Span], wanted: list[int], *, exact: bool = False
    ) -> list[Rows]: ...

    def logits_of_tokens(
        self, spans: list[Span], tokens: NDArray[np.int32], wanted: list[int], *, exact: bool
    ) -> list[Rows]: ...


def each_row(spans: Sequence[Span]) -> Iterator[Span]:
    """The rows of a call, each as a span of its own, in order."""
    for span in spans:
        for keep in range(span.keep, span.keep + span.rows):
            yield Span(span.slot, keep, 1)


def rows_in(spans: Sequence[Span]) -> int:
    """Rows of a call."""
    return sum(span.rows for span in spans)


def hidden(context: _OneRow, spans: Sequence[Span]) -> Rows:
    """As `Context.hidden`, in an array of its own; raises what that does."""
    given = context.inputs(rows_in(spans)).copy()
    found = np.empty_like(given)
    for i, one in enumerate(each_row(spans)):
        context.inputs(1)[:] = given[i]
        found[i] = context.hidden([one], exact=True)[0]
    return found


def logits(context: _OneRow, spans: Sequence[Span], wanted: Collection[int]) -> list[Rows]:
    """As `Context.logits`, in arrays of their own; raises what that does."""
    given = context.inputs(rows_in(spans)).copy()
    found: list[Rows] = []
    for i, one in enumerate(each_row(spans)):
        context.inputs(1)[:] = given[i]
        rows = context.logits([one], [0] if i in wanted else [], exact=True)
        found += [row.copy() for row in rows]
    return found


def logits_of_tokens(
    context: _OneRow, spans: Sequence[Span], tokens: NDArray[np.int32], wanted: Collection[int]
) -> list[Rows]:
    """As `Context.logits_of_tokens`, in arrays of their own; raises what that does."""
    found: list[Rows] = []
    for i, one in enumerate(each_row(spans)):
        part = tokens[i : i + 1]
        rows = context.logits_of_tokens([one], part, [0] if i in wanted else [], exact=True)
        found += [row.copy() for row in rows]
    return found
