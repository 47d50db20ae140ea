"""A slot's caches out of a context and back: the same bits go on from them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.support.cut_models import Rows

from atoll.domain.errors import EngineFault
from atoll.engine.batch import Span
from atoll.engine.llama import Context, ContextOptions, Model
from atoll.engine.state import put_state, state_bytes, take_state

pytestmark = pytest.mark.engine

OPTIONS = ContextOptions(
    n_slots=3, context=64, rows_max=16, threads=1, threads_large=2, outputs_max=16
)


@pytest.fixture(scope="module")
def model(small_shards: list[Path]) -> Iterator[Model]:
    found = Model(small_shards[1])
    yield found
    found.close()


@pytest.fixture
def context(model: Model) -> Iterator[Context]:
    found = Context(model, OPTIONS, tap=True)
    yield found
    found.close()


def run(context: Context, span: Span, seed: int) -> Rows:
    rows = np.random.default_rng(seed).standard_normal((span.rows, context.model.n_embd))
    context.inputs(span.rows)[:] = rows.astype(np.float32)
    return context.hidden([span]).copy()


def test_the_same_bits_go_on_in_any_slot(context: Context) -> None:
    run(context, Span(0, 0, 12), 1)
    expected = run(context, Span(0, 12, 5), 2)
    context.drop(0, 12)
    state = bytes(take_state(context, 0))
    assert len(state) == state_bytes(context, 0)
    # Another conversation was in the slot meanwhile, longer than this one.
    context.drop(0)
    run(context, Span(0, 0, 16), 3)
    run(context, Span(0, 16, 16), 4)
    for slot in (2, 0, 1):
        put_state(context, slot, state, 12)
        assert (context.held(slot), context.reached(slot) >= 12) == (12, True)
        assert np.array_equal(run(context, Span(slot, 12, 5), 2), expected)
    # And from the middle of it.
    put_state(context, 1, state, 12)
    again = run(context, Span(1, 9, 3), 5)
    context.drop(0, 9)
    assert np.array_equal(run(context, Span(0, 9, 3), 5), again)


def test_it_stays_where_it_was(context: Context) -> None:
    run(context, Span(0, 0, 4), 1)
    take_state(context, 0)
    assert context.held(0) == 4


def test_another_number_of_positions_empties_the_slot(context: Context) -> None:
    run(context, Span(0, 0, 12), 1)
    state = bytes(take_state(context, 0))
    run(context, Span(1, 0, 3), 2)
    with pytest.raises(EngineFault, match="13 positions"):
        put_state(context, 1, state, 13)
    assert context.held(1) == 0
    run(context, Span(1, 0, 3), 2)
