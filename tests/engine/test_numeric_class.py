"""The numeric class: found by computing, and kept to whatever exact rows are computed beside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import MakeModel

from atoll.engine import numeric_class
from atoll.engine.batch import Span
from atoll.engine.llama import Context, ContextOptions, Model

pytestmark = pytest.mark.engine

SLOTS, ROWS = 4, 12


@contextmanager
def open_context(path: Path, *, tap: bool) -> Iterator[Context]:
    model = Model(path)
    options = ContextOptions(
        n_slots=SLOTS, context=128, rows_max=64, threads=1, threads_large=1, outputs_max=64
    )
    context = Context(model, options, tap=tap)
    try:
        yield context
    finally:
        context.close()
        model.close()


@pytest.fixture
def floats(random_model: MakeModel) -> Iterator[Context]:
    """A model of 32-bit floats, whose rows have other bits when they share a call."""
    with open_context(random_model("llama"), tap=False) as context:
        yield context


@pytest.fixture
def hidden(random_model: MakeModel) -> Iterator[Context]:
    with open_context(random_model("llama"), tap=True) as context:
        yield context


@pytest.fixture
def demo(demo_model: Path) -> Iterator[Context]:
    with open_context(demo_model, tap=False) as context:
        yield context


def given(n_embd: int) -> np.ndarray:
    return np.random.default_rng(5).standard_normal((SLOTS, ROWS, n_embd), dtype=np.float32)


def outputs(context: Context, calls: list[list[Span]]) -> dict[tuple[int, int], bytes]:
    """Outputs by slot and position, when computed so."""
    rows_of = given(context.model.n_embd)
    for slot in range(SLOTS):
        context.drop(slot)
    found: dict[tuple[int, int], bytes] = {}
    for spans in calls:
        ones = [(s.slot, s.keep + i) for s in spans for i in range(s.rows)]
        rows = context.inputs(len(ones))
        for row, (slot, position) in zip(rows, ones, strict=True):
            row[:] = rows_of[slot, position]
        if context.is_tapped:
            computed = list(context.hidden(spans, exact=True))
        else:
            computed = context.logits(spans, list(range(len(ones))), exact=True)
        found |= {one: row.tobytes() for one, row in zip(ones, computed, strict=True)}
    return found


ALONE = [[Span(s, i, 1)] for s in range(SLOTS) for i in range(ROWS)]
CHUNKS = [[Span(s, 0, ROWS)] for s in range(SLOTS)]
MERGED = [[Span(s, i, 1) for s in range(SLOTS)] for i in range(ROWS)]
GUESSES = [[Span(s, i, 3) for s in range(SLOTS)] for i in range(0, ROWS, 3)]
MIXED = [[Span(s, 0, 5) for s in range(SLOTS)], *([Span(s, 5, 7)] for s in range(SLOTS))]


@pytest.mark.parametrize("name", ["floats", "hidden", "demo"])
def test_exact_rows_have_the_bits_they_have_alone(
    name: str, request: pytest.FixtureRequest
) -> None:
    context: Context = request.getfixturevalue(name)
    numeric_class.settle(context)
    alone = outputs(context, ALONE)
    for calls in (CHUNKS, MERGED, GUESSES, MIXED):
        assert outputs(context, calls) == alone, calls


def test_where_calls_change_bits_is_found(floats: Context, hidden: Context, demo: Context) -> None:
    assert not numeric_class.settle(floats).together
    assert not numeric_class.settle(hidden).together
    assert numeric_class.settle(demo).together
    assert not demo.row_by_row
    # It matters: as calls come they have other bits.
    assert floats.row_by_row
    floats.row_by_row = False
    assert outputs(floats, MERGED) != outputs(floats, ALONE)


def test_the_class_is_that_of_the_weights(
    random_model: MakeModel, floats: Context, hidden: Context
) -> None:
    first = numeric_class.settle(floats)
    assert numeric_class.settle(floats) == first
    assert numeric_class.settle(hidden).digest != first.digest
    with open_context(random_model("llama", n_layers=5), tap=False) as other:
        assert numeric_class.settle(other).digest != first.digest


def test_nothing_is_left_in_the_slots(floats: Context) -> None:
    numeric_class.settle(floats)
    assert [floats.held(slot) for slot in range(SLOTS)] == [0] * SLOTS


def test_a_whole_model_is_fed_tokens(floats: Context, demo: Context) -> None:
    assert not numeric_class.settle_whole(floats).together
    assert numeric_class.settle_whole(demo).together
    tokens = np.arange(3, 3 + ROWS, dtype=np.int32)
    [row] = floats.logits_of_tokens([Span(0, 0, ROWS)], tokens, [ROWS - 1], exact=True)
    found = row.tobytes()
    floats.drop(0)
    for i in range(ROWS):
        ones = floats.logits_of_tokens([Span(0, i, 1)], tokens[i : i + 1], [0], exact=True)
    assert ones[0].tobytes() == found
