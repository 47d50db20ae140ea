"""What NaN leaves in a slot, and that nothing of it is left after a scrub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.support.cut_models import Rows, cut, rescale

from atoll.domain.errors import EngineFault
from atoll.engine.batch import Span
from atoll.engine.llama import Context, ContextOptions, Model
from atoll.engine.scrub import scrub

pytestmark = pytest.mark.engine

OPTIONS = ContextOptions(
    n_slots=2, context=256, rows_max=128, threads=1, threads_large=1, outputs_max=128
)
WINDOW = np.random.default_rng(1).standard_normal((128, 64)).astype(np.float32)
NAN = np.full_like(WINDOW, np.nan)


def run(context: Context, span: Span, rows: Rows) -> Rows:
    context.inputs(span.rows)[:] = rows[: span.rows]
    return context.outcome(span).copy()


@pytest.mark.parametrize("tap", [True, False])
def test_after_a_scrub_a_slot_gives_the_bits_of_a_fresh_one(
    random_model: Callable[..., Path], tmp_path: Path, tap: bool
) -> None:
    """With many rows in a call; without the scrub they are NaN, which is why it is there."""
    shard = cut(random_model("llama"), [2, 4] if tap else [4, 6], tmp_path)[0]
    model = Model(shard)
    context = Context(model, OPTIONS, tap=tap)
    expected = run(context, Span(0, 0, 100), WINDOW)
    run(context, Span(1, 0, 128), NAN)
    context.drop(1)
    assert np.isnan(run(context, Span(1, 0, 100), WINDOW)).any()
    scrub(context, 1)
    assert context.held(1) == 0
    assert np.array_equal(run(context, Span(1, 0, 100), WINDOW), expected)
    context.close()
    model.close()


def test_positions_before_the_spoilt_ones_stay(small_shards: list[Path]) -> None:
    model = Model(small_shards[1])
    context = Context(model, OPTIONS, tap=True)
    run(context, Span(0, 0, 20), WINDOW)
    expected = run(context, Span(0, 20, 80), WINDOW)
    run(context, Span(0, 20, 128), NAN)
    scrub(context, 0, 20)
    assert context.held(0) == 20
    assert np.array_equal(run(context, Span(0, 20, 80), WINDOW), expected)
    context.close()
    model.close()


def test_a_model_that_makes_nan_of_anything_is_told(
    small_shards: list[Path], tmp_path: Path
) -> None:
    damaged = rescale(small_shards[1], "blk.1.ffn_norm.weight", np.nan, tmp_path / "damaged.gguf")
    model = Model(damaged)
    context = Context(model, OPTIONS, tap=True)
    run(context, Span(0, 0, 3), WINDOW)
    with pytest.raises(EngineFault, match="slot 0 cannot be made sound"):
        scrub(context, 0)
    assert context.held(0) == 0
    context.close()
    model.close()
