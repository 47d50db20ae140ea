"""Calls taken apart into rows, in order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from atoll.engine import row_by_row
from atoll.engine.batch import Span
from atoll.engine.codec import Rows

SPANS = [Span(1, 4, 2), Span(2, 0, 2)]
ONES = [Span(1, 4, 1), Span(1, 5, 1), Span(2, 0, 1), Span(2, 1, 1)]


class Doubler:
    """A context that doubles its input, in buffers that the next call overwrites."""

    def __init__(self) -> None:
        self._given = np.arange(8, dtype=np.float32).reshape(4, 2)
        self._found = np.zeros((1, 2), np.float32)
        self.calls: list[Span] = []

    def inputs(self, n: int) -> Rows:
        return self._given[:n]

    def hidden(self, spans: list[Span], *, exact: bool = False) -> Rows:
        assert exact
        self.calls += spans
        self._found[:] = 2 * self._given[:1]
        return self._found

    def logits(self, spans: list[Span], wanted: list[int], *, exact: bool = False) -> list[Rows]:
        found = self.hidden(spans, exact=exact)
        return [found[i] for i in wanted]

    def logits_of_tokens(
        self, spans: list[Span], tokens: NDArray[np.int32], wanted: list[int], *, exact: bool
    ) -> list[Rows]:
        self._given[0] = tokens[0]
        return self.logits(spans, wanted, exact=exact)


def test_rows_of_a_call() -> None:
    assert list(row_by_row.each_row(SPANS)) == ONES
    assert row_by_row.rows_in(SPANS) == 4


def test_hidden_states_are_those_of_the_rows() -> None:
    context = Doubler()
    assert row_by_row.hidden(context, SPANS).tolist() == [[0, 2], [4, 6], [8, 10], [12, 14]]
    assert context.calls == ONES


def test_only_wanted_rows_have_logits() -> None:
    context = Doubler()
    found = row_by_row.logits(context, SPANS, [1, 3])
    assert [row.tolist() for row in found] == [[4, 6], [12, 14]]
    assert context.calls == ONES


def test_tokens_are_fed_one_by_one() -> None:
    context, tokens = Doubler(), np.array([5, 6, 7, 8], np.int32)
    found = row_by_row.logits_of_tokens(context, SPANS, tokens, [0, 2])
    assert [row.tolist() for row in found] == [[10, 10], [14, 14]]
    assert context.calls == ONES
