"""The tap finds the last layer's output however the graph is rebuilt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.cut_models import Rows, cut, embed

from atoll.domain.errors import EngineFault
from atoll.engine.batch import Span
from atoll.engine.library import load_library
from atoll.engine.llama import Context, ContextOptions, Model
from atoll.engine.tap import LayerTap

pytestmark = pytest.mark.engine

OPTIONS = ContextOptions(
    n_slots=2, context=512, rows_max=256, threads=1, threads_large=2, outputs_max=256
)
ROWS = (1, 2, 7, 63, 256)


class Pieces(Context):
    """A context whose micro-batch is smaller than a call, which ours never is."""

    def _params(self) -> Any:
        params = super()._params()
        params.n_ubatch = 4
        return params


def fed(context: Context, rows: Rows, keep: int = 0, slot: int = 0) -> Rows:
    context.inputs(len(rows))[:] = rows
    return context.hidden([Span(slot, keep, len(rows))]).copy()


def two_contexts(shard: Path) -> tuple[Model, Context, Context]:
    model = Model(shard)
    return model, Context(model, OPTIONS, tap=True), Context(model, OPTIONS, tap=True)


def close_to(found: Rows, expected: Rows) -> bool:
    """Other kernels for other numbers of rows; another row's values are off by their size."""
    return bool(np.abs(found - expected).max() < 0.05 * expected.std())


def test_changing_numbers_of_rows_are_caught_right(small_shards: list[Path]) -> None:
    """Each change rebuilds the graph elsewhere, and the address is learnt anew."""
    model, context, steady = two_contexts(small_shards[1])
    rng = np.random.default_rng(11)
    rows = rng.standard_normal((256, model.n_embd)).astype(np.float32)
    expected = fed(steady, rows)
    order = [*ROWS, *reversed(ROWS), *rng.permutation(np.repeat(ROWS, 6)).tolist(), 1, 1, 2, 2]
    for n in order:
        assert close_to(fed(context, rows[:n]), expected[:n]), f"{n} rows"
    for closed in (context, steady, model):
        closed.close()


def test_steps_between_prefills_are_caught_right(small_shards: list[Path]) -> None:
    """Two slots, one decoding, the other prefilling; cells grow past several views."""
    model, context, steady = two_contexts(small_shards[1])
    rng = np.random.default_rng(12)
    a = rng.standard_normal((300, model.n_embd)).astype(np.float32)
    b = rng.standard_normal((300, model.n_embd)).astype(np.float32)
    right_a = np.concatenate([fed(steady, a[:256]), fed(steady, a[256:], keep=256)])
    right_b = np.concatenate(
        [fed(steady, b[i : i + 60], keep=i, slot=1) for i in range(0, 300, 60)]
    )
    at = 0
    for i in range(0, 300, 60):
        assert close_to(fed(context, b[i : i + 60], keep=i, slot=1), right_b[i : i + 60])
        for n in (1, 7, 52):
            assert close_to(fed(context, a[at : at + n], keep=at), right_a[at : at + n])
            at += n
    for closed in (context, steady, model):
        closed.close()


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_a_call_in_several_micro_batches_is_put_together(
    random_model: Callable[..., Path], tmp_path: Path, architecture: str
) -> None:
    path = random_model(architecture)
    shard = cut(path, [0, 3], tmp_path)[0]
    model = Model(shard)
    whole, pieces = Context(model, OPTIONS, tap=True), Pieces(model, OPTIONS, tap=True)
    tokens = list(range(3, 63))
    rows = embed(path, tokens)
    for n in (8, 5, 4, 1, 60, 7, 2, 9):
        expected = fed(whole, rows[:n])
        assert close_to(fed(pieces, rows[:n]), expected), f"{n} rows"
    for closed in (whole, pieces, model):
        closed.close()


def test_the_tap_gives_what_the_next_layers_need(
    random_model: Callable[..., Path], tmp_path: Path
) -> None:
    """gemma3's layers end in norms and residuals of their own: cut there, nothing is lost."""
    path = random_model("gemma3")
    rows = embed(path, list(range(10, 40)))
    parts = cut(path, [0, 2, 5], tmp_path)
    joined = cut(path, [0, 5], tmp_path)
    chained = rows
    for shard in parts:
        model = Model(shard)
        context = Context(model, OPTIONS, tap=True)
        chained = fed(context, chained)
        context.close()
        model.close()
    model = Model(joined[0])
    context = Context(model, OPTIONS, tap=True)
    assert np.array_equal(fed(context, rows), chained)
    context.close()
    model.close()


def test_rows_that_never_came_are_an_error() -> None:
    tap = LayerTap(load_library(), 4, 8)
    tap.arm(3)
    assert not tap.hit()
    with pytest.raises(EngineFault, match="gave 0 of 3 rows"):
        tap.rows(3)


def test_a_layer_of_another_width_is_an_error(small_shards: list[Path]) -> None:
    model = Model(small_shards[1])
    context = Context(model, OPTIONS, tap=True)
    tap = context._tap
    assert tap is not None
    tap._n_embd = model.n_embd // 2
    with pytest.raises(EngineFault, match="unexpected shape, 2 rows"):
        context.hidden([Span(0, 0, 2)])
    tap._n_embd = model.n_embd
    rows = np.ones((2, model.n_embd), np.float32)
    assert np.isfinite(fed(context, rows)).all()
    context.close()
    model.close()
