"""What the project relies on in the engine: when bits are equal, and whose rows are whose.

All on the demo model, three shards of ten layers, two worker threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tests.support.cut_models import Chain, Rows

from atoll.engine.batch import EXACT_ROWS_MAX, Span, lay_out
from atoll.engine.llama import Context, ContextOptions, Model

pytestmark = pytest.mark.engine

OPTIONS = ContextOptions(
    n_slots=4, context=640, rows_max=256, threads=2, threads_large=2, outputs_max=256
)
FAR = 540
"""Positions up to here go beyond 512 cells, where attention is split over threads."""
N_VOCAB = 49_152


def text(seed: int, n: int) -> list[int]:
    return [int(t) for t in np.random.default_rng(seed).integers(17, N_VOCAB, n)]


class Whole:
    """The uncut model; `logits` decodes row by row, one thread, which is the yardstick."""

    def __init__(self, path: Path) -> None:
        self._model = Model(path)
        self._context = Context(self._model, OPTIONS, tap=False)

    def singly(self, tokens: list[int], first: int, last: int) -> list[Rows]:
        """Logits of positions [first, last), each computed in a call of its own."""
        out = []
        for at in range(first, last):
            row = np.array(tokens[at : at + 1], np.int32)
            found = self._context.logits_of_tokens([Span(0, at, 1)], row, [0], exact=True)
            out.append(found[0].copy())
        return out

    def prefill(self, tokens: list[int], until: int) -> None:
        """Positions [0, until) in calls that keep the bits."""
        for at in range(0, until, EXACT_ROWS_MAX):
            part = np.array(tokens[at : min(at + EXACT_ROWS_MAX, until)], np.int32)
            self._context.logits_of_tokens([Span(0, at, len(part))], part, [], exact=True)

    def close(self) -> None:
        self._context.close()
        self._model.close()


@pytest.fixture(scope="module")
def whole(demo_model: Path) -> Iterator[Whole]:
    model = Whole(demo_model)
    yield model
    model.close()


@pytest.fixture(scope="module")
def chain(demo_model: Path, demo_thirds: list[Path]) -> Iterator[Chain]:
    found = Chain(demo_model, demo_thirds, OPTIONS)
    yield found
    found.close()


@pytest.fixture(scope="module")
def singly(whole: Whole) -> list[Rows]:
    """The yardstick for text 0: logits of its first 70 positions."""
    return whole.singly(text(0, 70), 0, 70)


def assert_same_bits(found: list[Rows], expected: list[Rows], what: object) -> None:
    for i, (row, right) in enumerate(zip(found, expected, strict=True)):
        assert np.array_equal(row, right), f"{what}, row {i}: off by {abs(row - right).max()}"


def test_the_yardstick_tells_rows_apart(singly: list[Rows]) -> None:
    """Else equal bits would prove nothing."""
    assert all(row.shape == (N_VOCAB,) and row.std() > 1 for row in singly)
    assert not any(np.allclose(a, b, atol=0.1) for a, b in pairwise(singly))


def test_three_stages_give_the_whole_models_bits_row_by_row(
    chain: Chain, singly: list[Rows]
) -> None:
    tokens = text(0, 70)
    for at in range(12):
        found = chain.logits([Span(0, at, 1)], tokens[at : at + 1], exact=True)
        assert_same_bits(found, singly[at : at + 1], at)


def test_any_number_of_rows_keeps_the_bits_after_rollbacks(
    chain: Chain, singly: list[Rows]
) -> None:
    """Every call goes back to position 5, over what the call before it wrote."""
    tokens = text(0, 70)
    chain.logits([Span(1, 0, 5)], tokens[:5], exact=True)
    for rows in (*range(1, 10), 15, 16, 17, 24, 31, 32, 33, 48, EXACT_ROWS_MAX, 1, 2):
        found = chain.logits([Span(1, 5, rows)], tokens[5 : 5 + rows], exact=True)
        assert_same_bits(found, singly[5 : 5 + rows], f"{rows} rows")


def test_a_rollback_forgets_what_was_written_with_other_tokens(
    chain: Chain, singly: list[Rows]
) -> None:
    tokens = text(0, 70)
    chain.logits([Span(2, 0, 40)], text(7, 40), exact=True)
    chain.logits([Span(2, 0, 9)], tokens[:9], exact=True)
    chain.logits([Span(2, 9, 20)], text(8, 20), exact=True)
    found = chain.logits([Span(2, 9, 4)], tokens[9:13], exact=True)
    assert_same_bits(found, singly[9:13], "after two rollbacks")


def test_merged_sessions_keep_the_bits(chain: Chain, whole: Whole) -> None:
    """Three sessions of different texts and lengths in one call, again and again."""
    texts = [text(seed, 80) for seed in (21, 22, 23)]
    starts = [3, 10, 6]
    for slot, start in enumerate(starts):
        chain.logits([Span(slot, 0, start)], texts[slot][:start], exact=True)
    expected = [
        whole.singly(tokens, 0, start + 32)[start:]
        for tokens, start in zip(texts, starts, strict=True)
    ]
    done = 0
    for rows in (1, 1, 2, 5, 22):
        spans = [Span(slot, start + done, rows) for slot, start in enumerate(starts)]
        tokens = [t for span in spans for t in texts[span.slot][span.keep : span.keep + rows]]
        found = chain.logits(spans, tokens, exact=True)
        right = [row for slot in range(3) for row in expected[slot][done : done + rows]]
        assert_same_bits(found, right, f"3 x {rows} rows")
        done += rows if rows < 22 else 0


@pytest.mark.long
def test_bits_hold_beyond_512_cells(chain: Chain, whole: Whole) -> None:
    """There a lone row runs on one thread; with a second one beside it, on both."""
    tokens, other = text(31, FAR), text(32, 20)
    first = 530
    whole.prefill(tokens, first)
    expected = whole.singly(tokens, first, first + 4)
    for at in range(0, first, EXACT_ROWS_MAX):
        end = min(at + EXACT_ROWS_MAX, first)
        chain.logits([Span(0, at, end - at)], tokens[at:end], exact=True)
    chain.logits([Span(1, 0, 19)], other[:19], exact=True)
    for rows in (1, 2, 4):
        found = chain.logits([Span(0, first, rows)], tokens[first : first + rows], exact=True)
        assert_same_bits(found, expected[:rows], f"{rows} rows alone")
    beside = [Span(0, first, 1), Span(1, 19, 1)]
    found = chain.logits(beside, [tokens[first], other[19]], exact=True)
    assert_same_bits(found[:1], expected[:1], "a second row beside it")


def test_prefill_in_largest_exact_calls_leaves_the_bits_of_single_rows(
    chain: Chain, singly: list[Rows], whole: Whole
) -> None:
    tokens = text(0, 70)
    chain.logits([Span(3, 0, EXACT_ROWS_MAX)], tokens[:EXACT_ROWS_MAX], exact=True)
    at = EXACT_ROWS_MAX
    found = chain.logits([Span(3, at, 2)], tokens[at : at + 2], exact=True)
    assert_same_bits(found, singly[at : at + 2], "behind 63 rows")


class Stage:
    """The middle shard alone, fed with random hidden states."""

    def __init__(self, path: Path) -> None:
        self._model = Model(path)
        self._context = Context(self._model, OPTIONS, tap=True)
        self._rng = np.random.default_rng(5)

    def rows(self, n: int) -> Rows:
        return self._rng.standard_normal((n, self._model.n_embd)).astype(np.float32)

    def call(self, spans: list[Span], rows: Rows) -> Rows:
        self._context.inputs(len(rows))[:] = rows
        return self._context.hidden(spans, exact=True).copy()

    def apart(self, spans: list[Span], rows: Rows) -> Rows:
        """Each span in a call of its own, from an empty slot."""
        parts, at = [], 0
        for span in spans:
            parts.append(self.call([span], rows[at : at + span.rows]))
            at += span.rows
        return np.concatenate(parts)

    def close(self) -> None:
        self._context.close()
        self._model.close()


@pytest.fixture(scope="module")
def stage(demo_thirds: list[Path]) -> Iterator[Stage]:
    found = Stage(demo_thirds[1])
    yield found
    found.close()


def test_the_engine_mixes_up_rows_of_unequal_spans(stage: Stage) -> None:
    """Why `lay_out` exists: rc 0, all rows there, and one user's in another's place."""
    spans = [Span(0, 0, 4), Span(1, 0, 1)]
    assert len(lay_out(spans, OPTIONS.rows_max)) == 2
    rows = stage.rows(5)
    right = stage.apart(spans, rows)
    found = stage.call(spans, rows)
    places = [int(abs(right - row).max(axis=1).argmin()) for row in found]
    assert sorted(places) == [0, 1, 2, 3, 4]
    assert places != [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("slots", "rows"),
    [
        ((0, 1), (1, 1)),
        ((0, 1, 2, 3), (3, 3, 3, 3)),
        ((2, 0), (4, 1)),
        ((3, 1, 0), (2, 2, 2)),
        ((0, 1, 2, 3), (5, 1, 5, 2)),
        ((1, 2, 3), (63, 63, 63)),
    ],
)
def test_laid_out_calls_give_everybody_their_own_rows(
    stage: Stage, slots: tuple[int, ...], rows: tuple[int, ...]
) -> None:
    spans = [Span(slot, 0, n) for slot, n in zip(slots, rows, strict=True)]
    states = stage.rows(sum(rows))
    right = stage.apart(spans, states)
    starts = np.cumsum([0, *rows])
    found = np.empty_like(right)
    for call in lay_out(spans, OPTIONS.rows_max):
        of_call = [np.arange(starts[i], starts[i + 1]) for i in call]
        places = np.concatenate(of_call)
        found[places] = stage.call([spans[i] for i in call], states[places])
    assert np.array_equal(found, right)
