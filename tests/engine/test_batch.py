"""Which rows share a call."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.engine.batch import Span, lay_out

ROWS_MAX = 64


@st.composite
def batches(draw: st.DrawFn) -> list[Span]:
    slots = draw(st.permutations(range(12)))[: draw(st.integers(0, 12))]
    sizes = st.sampled_from([1, 1, 1, 2, 5, 63, 64])
    return [Span(slot, draw(st.integers(0, 9)), draw(sizes)) for slot in slots]


@given(spans=batches())
def test_calls_are_legal_and_hold_every_span_once(spans: list[Span]) -> None:
    calls = lay_out(spans, ROWS_MAX)
    assert sorted(i for call in calls for i in call) == list(range(len(spans)))
    for call in calls:
        members = [spans[i] for i in call]
        slots = [span.slot for span in members]
        assert slots == list(range(slots[0], slots[0] + len(slots)))
        assert len({span.rows for span in members}) == 1
        assert sum(span.rows for span in members) <= ROWS_MAX


@given(spans=batches())
def test_what_could_share_a_call_does(spans: list[Span]) -> None:
    """No call could be appended to the one before it."""
    calls = lay_out(spans, ROWS_MAX)
    for before, after in pairwise(calls):
        last, first = spans[before[-1]], spans[after[0]]
        joins = last.rows == first.rows and last.slot + 1 == first.slot
        assert not joins or (len(before) + 1) * last.rows > ROWS_MAX


@pytest.mark.parametrize(
    ("spans", "calls"),
    [
        ([], []),
        ([(3, 1), (1, 1), (2, 1)], [[1, 2, 0]]),
        ([(0, 1), (2, 1)], [[0], [1]]),
        ([(0, 1), (1, 2), (2, 1)], [[0], [2], [1]]),
        ([(0, 2), (1, 2), (2, 1), (3, 1)], [[2, 3], [0, 1]]),
        ([(0, 32), (1, 32), (2, 32)], [[0, 1], [2]]),
    ],
)
def test_examples(spans: list[tuple[int, int]], calls: list[list[int]]) -> None:
    assert lay_out([Span(slot, 0, rows) for slot, rows in spans], ROWS_MAX) == calls


def test_a_slot_that_comes_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="slot 4 comes twice"):
        lay_out([Span(4, 0, 1), Span(4, 1, 1)], ROWS_MAX)


@pytest.mark.parametrize("rows", [0, -1, ROWS_MAX + 1])
def test_impossible_numbers_of_rows_are_refused(rows: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 64"):
        lay_out([Span(0, 0, rows)], ROWS_MAX)
