"""The feed: hidden states enter a graph that scales its input as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.cut_models import Rows, cut, embed

from atoll.domain.errors import EngineFault
from atoll.engine.batch import Span
from atoll.engine.feed import InputFeed
from atoll.engine.library import load_library
from atoll.engine.llama import Context, ContextOptions, Model

pytestmark = pytest.mark.engine

OPTIONS = ContextOptions(
    n_slots=2, context=256, rows_max=64, threads=1, threads_large=1, outputs_max=64
)


class Pieces(Context):
    """A context whose micro-batch is smaller than a call, which ours never is."""

    def _params(self) -> Any:
        params = super()._params()
        params.n_ubatch = 4
        return params


def fed(context: Context, rows: Rows, keep: int = 0, slot: int = 0) -> Rows:
    context.inputs(len(rows))[:] = rows
    return context.hidden([Span(slot, keep, len(rows))], exact=True).copy()


@pytest.fixture
def gemma2(random_model: Callable[..., Path]) -> Path:
    return random_model("gemma2")


def test_two_shards_give_what_one_of_all_their_layers_gives(gemma2: Path, tmp_path: Path) -> None:
    """Numbers of rows change, so graphs are rebuilt elsewhere, and sessions take turns."""
    parts = [Model(path) for path in cut(gemma2, [0, 3, 5], tmp_path)]
    joined = Model(cut(gemma2, [0, 5], tmp_path)[0])
    chain = [Context(model, OPTIONS, tap=True) for model in parts]
    one = Context(joined, OPTIONS, tap=True)
    rows = embed(gemma2, list(range(3, 103)))
    at = [0, 0]
    for slot, n in ((0, 5), (1, 60), (0, 1), (0, 1), (1, 2), (0, 40), (1, 1), (0, 7)):
        part = rows[at[slot] : at[slot] + n]
        expected = fed(one, part, at[slot], slot)
        found = fed(chain[1], fed(chain[0], part, at[slot], slot), at[slot], slot)
        assert np.array_equal(found, expected), f"{n} rows of slot {slot}"
        at[slot] += n
    for context in (*chain, one):
        context.close()
    for model in (*parts, joined):
        model.close()


def test_without_the_feed_the_rows_would_be_others(gemma2: Path, tmp_path: Path) -> None:
    model = Model(cut(gemma2, [2, 4], tmp_path)[0])
    right = Context(model, OPTIONS, tap=True)
    model.scaled_input = ""
    wrong = Context(model, OPTIONS, tap=True)
    rows = np.random.default_rng(3).standard_normal((8, model.n_embd)).astype(np.float32)
    assert np.abs(fed(right, rows) - fed(wrong, rows)).max() > 0.1
    for closed in (right, wrong, model):
        closed.close()


def test_a_call_in_several_micro_batches_is_fed_in_order(gemma2: Path, tmp_path: Path) -> None:
    model = Model(cut(gemma2, [2, 4], tmp_path)[0])
    whole, pieces = Context(model, OPTIONS, tap=True), Pieces(model, OPTIONS, tap=True)
    rows = np.random.default_rng(4).standard_normal((60, model.n_embd)).astype(np.float32)
    for n in (8, 5, 4, 1, 60, 7):
        expected, found = fed(whole, rows[:n]), fed(pieces, rows[:n])
        assert np.abs(found - expected).max() < 0.05 * expected.std(), f"{n} rows"
    for closed in (whole, pieces, model):
        closed.close()


def test_a_graph_without_the_tensor_is_an_error(
    random_model: Callable[..., Path], tmp_path: Path
) -> None:
    model = Model(cut(random_model("llama"), [2, 4], tmp_path)[0])
    model.scaled_input = "inp_scaled"
    context = Context(model, OPTIONS, tap=True)
    with pytest.raises(EngineFault, match="no tensor 'inp_scaled'"):
        context.hidden([Span(0, 0, 2)])
    context.close()
    model.close()


def test_a_tensor_of_another_width_is_an_error(gemma2: Path, tmp_path: Path) -> None:
    model = Model(cut(gemma2, [2, 4], tmp_path)[0])
    context = Context(model, OPTIONS, tap=True)
    feed = context._feed
    assert feed is not None
    feed._rows = np.zeros((64, model.n_embd // 2), np.float32)
    with pytest.raises(EngineFault, match="no tensor"):
        context.hidden([Span(0, 0, 2)])
    context.close()
    model.close()


def test_tokens_are_not_fed() -> None:
    feed = InputFeed(load_library(), "inp_scaled", np.zeros((4, 8), np.float32))
    feed.arm(0)
    assert feed.hit()
    assert not feed.asks(1)
    feed.arm(3)
    assert not feed.hit()
