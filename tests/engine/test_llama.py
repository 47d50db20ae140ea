"""Models and contexts: what is refused before llama.cpp would abort, and what survives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.support.cut_models import Rows, embed

from atoll.domain.errors import BadModel, EngineFault
from atoll.engine.batch import Span
from atoll.engine.llama import Context, ContextOptions, Model

pytestmark = pytest.mark.engine

OPTIONS = ContextOptions(
    n_slots=3, context=64, rows_max=16, threads=1, threads_large=2, outputs_max=16
)
NOISE = 0.1
"""What other kernels for other numbers of rows change in these models' values, which are
around 5; wrong rows are off by as much as the values."""


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


def states(seed: int, n: int, n_embd: int = 64) -> Rows:
    return np.random.default_rng(seed).standard_normal((n, n_embd)).astype(np.float32)


def run(context: Context, span: Span, rows: Rows) -> Rows:
    context.inputs(len(rows))[:] = rows
    return context.hidden([span]).copy()


def test_a_model_says_its_shape(model: Model, random_model: Callable[..., Path]) -> None:
    assert (model.n_embd, model.n_layers) == (64, 2)
    whole = Model(random_model("llama"))
    assert whole.context_train == 512
    whole.close()
    whole.close()


def test_files_that_are_no_models_are_refused(tmp_path: Path, small_shards: list[Path]) -> None:
    junk, cut_short = tmp_path / "junk.gguf", tmp_path / "short.gguf"
    junk.write_bytes(b"not a model at all" * 100)
    data = small_shards[0].read_bytes()
    cut_short.write_bytes(data[: len(data) // 2])
    for path in (junk, cut_short, tmp_path / "absent.gguf"):
        with pytest.raises(BadModel, match=path.name):
            Model(path)


def test_a_gpu_that_is_not_there(small_shards: list[Path]) -> None:
    with pytest.raises(EngineFault, match="does not find the device CUDA99"):
        Model(small_shards[0], device="CUDA99")


def test_more_cells_than_llama_cpp_can_count_are_refused(model: Model) -> None:
    options = ContextOptions(
        n_slots=256, context=1 << 24, rows_max=16, threads=1, threads_large=1, outputs_max=16
    )
    with pytest.raises(EngineFault, match="no room for 256 slots") as caught:
        Context(model, options, tap=True)
    assert "fewer streams" in caught.value.hint


def test_more_slots_than_llama_cpp_has_are_refused(model: Model) -> None:
    options = ContextOptions(
        n_slots=257, context=16, rows_max=16, threads=1, threads_large=1, outputs_max=16
    )
    with pytest.raises(EngineFault, match="no room for 257 slots"):
        Context(model, options, tap=True)


def test_every_slot_holds_the_context_asked_for(model: Model) -> None:
    """llama.cpp rounds cells and divides them among the slots; nobody may get fewer."""
    options = ContextOptions(
        n_slots=3, context=100, rows_max=50, threads=1, threads_large=1, outputs_max=50
    )
    context = Context(model, options, tap=True)
    rows = states(9, 100)
    for slot in range(3):
        for at in (0, 50):
            out = run(context, Span(slot, at, 50), rows[at : at + 50])
        assert np.isfinite(out).all()
        assert context.held(slot) == 100
    context.close()


def test_every_row_of_a_tapped_call_must_be_an_output(model: Model) -> None:
    options = ContextOptions(
        n_slots=1, context=64, rows_max=16, threads=1, threads_large=1, outputs_max=4
    )
    with pytest.raises(ValueError, match="output"):
        Context(model, options, tap=True)


@pytest.mark.parametrize(
    "span",
    [
        Span(3, 0, 1),
        Span(-1, 0, 1),
        Span(0, -1, 1),
        Span(0, 0, 0),
        Span(0, 0, -2),
        Span(0, 0, 17),
        Span(0, 63, 2),
        Span(0, 65, 1),
    ],
)
def test_spans_beyond_the_context_are_refused(context: Context, span: Span) -> None:
    run(context, Span(1, 0, 2), states(1, 2))
    with pytest.raises(ValueError, match="beyond"):
        context.hidden([span])
    assert [context.held(slot) for slot in range(3)] == [0, 2, 0]


def test_more_rows_in_all_than_a_micro_batch_are_refused(context: Context) -> None:
    with pytest.raises(ValueError, match="beyond"):
        context.hidden([Span(0, 0, 9), Span(1, 0, 9)])


def test_slots_that_do_not_exist_cannot_be_dropped(context: Context) -> None:
    for slot in (-1, 3):
        with pytest.raises(ValueError, match="beyond"):
            context.drop(slot)


def test_positions_must_continue(context: Context) -> None:
    right = run(context, Span(0, 0, 6), states(2, 6))
    with pytest.raises(EngineFault, match="slot 0 holds 6 positions, not 7"):
        run(context, Span(0, 7, 1), states(3, 1))
    with pytest.raises(EngineFault, match="slot 1 holds 0 positions, not 1"):
        run(context, Span(1, 1, 1), states(3, 1))
    again = run(context, Span(0, 4, 2), states(2, 6)[4:])
    assert np.allclose(again, right[4:], atol=NOISE)


def test_keep_drops_what_is_behind_it(context: Context) -> None:
    """A rolled-back slot computes as one that never held the dropped rows."""
    rows = states(4, 12)
    run(context, Span(0, 0, 5), rows[:5])
    run(context, Span(1, 0, 5), rows[:5])
    expected = run(context, Span(0, 5, 3), rows[5:8])
    run(context, Span(1, 5, 7), rows[5:])
    assert context.held(1) == 12
    assert np.array_equal(run(context, Span(1, 5, 3), rows[5:8]), expected)
    assert context.held(1) == 8
    context.drop(1)
    assert context.held(1) == 0
    context.drop(0, 9)
    assert context.held(0) == 8


def test_a_failed_call_leaves_other_slots_and_its_own_past_usable(
    random_model: Callable[..., Path],
) -> None:
    """A token outside the vocabulary is found by llama.cpp itself, in the call."""
    model = Model(random_model("llama"))
    context = Context(model, OPTIONS, tap=False)

    def step(slots: list[int], keep: int, tokens: list[int]) -> list[Rows]:
        n = len(tokens) // len(slots)
        spans = [Span(slot, keep, n) for slot in slots]
        wanted = [n * (i + 1) - 1 for i in range(len(slots))]
        ids = np.array(tokens, np.int32)
        found = context.logits_of_tokens(spans, ids, wanted, exact=False)
        return [row.copy() for row in found]

    step([0, 1], 0, [5, 6, 7, 8, 9, 10])
    right = step([0, 1], 3, [11, 12])
    with pytest.raises(EngineFault, match="decode call failed with code"):
        step([0, 1], 3, [11, 9999])
    assert [context.held(slot) for slot in range(3)] == [3, 3, 0]
    assert np.array_equal(step([0, 1], 3, [11, 12]), right)
    assert step([2], 0, [5])[0].size == right[0].size
    context.close()
    model.close()


@pytest.mark.parametrize("wanted", [[4], [-1], list(range(4)) * 5])
def test_logits_of_rows_that_are_not_there_are_refused(
    random_model: Callable[..., Path], wanted: list[int]
) -> None:
    path = random_model("llama")
    model = Model(path)
    context = Context(model, OPTIONS, tap=False)
    context.inputs(4)[:] = embed(path, [5, 6, 7, 8])
    with pytest.raises(ValueError, match="rows"):
        context.logits([Span(0, 0, 4)], wanted)
    assert np.isfinite(context.logits([Span(0, 0, 4)], [3])[0]).all()
    context.close()
    model.close()


def test_logits_come_for_the_wanted_rows_in_order(random_model: Callable[..., Path]) -> None:
    path = random_model("llama")
    model = Model(path)
    context = Context(model, OPTIONS, tap=False)
    tokens = [5, 60, 7, 80, 9]
    context.inputs(5)[:] = embed(path, tokens)
    every = [row.copy() for row in context.logits([Span(0, 0, 5)], [0, 1, 2, 3, 4])]
    assert not np.allclose(every[1], every[3], atol=0.01)
    context.inputs(5)[:] = embed(path, tokens)
    some = [row.copy() for row in context.logits([Span(1, 0, 5)], [1, 3])]
    assert np.allclose(some, [every[1], every[3]], atol=NOISE)
    ids = np.array(tokens, np.int32)
    by_ids = context.logits_of_tokens([Span(2, 0, 5)], ids, [1, 3], exact=False)
    assert np.array_equal(by_ids, some)
    assert context.logits([Span(2, 5, 2)], []) == []
    context.close()
    model.close()


def test_large_calls_and_small_ones_take_turns(model: Model) -> None:
    """The number of threads changes with the size of a call; the rows stay right."""
    options = ContextOptions(
        n_slots=1, context=128, rows_max=64, threads=1, threads_large=2, outputs_max=64
    )
    context = Context(model, options, tap=True)
    rows = states(6, 64)
    expected = run(context, Span(0, 0, 64), rows)
    for n in (1, 40, 2, 63, 1, 33):
        assert np.allclose(run(context, Span(0, 0, n), rows[:n]), expected[:n], atol=NOISE)
    context.close()
    context.close()
