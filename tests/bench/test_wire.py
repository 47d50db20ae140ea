from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from bench.wire import Likeness, WiredChain, costs, likeness, told

from atoll.domain.wire import F16_SCALED, F32, I8_BLOCKS, row_bytes
from atoll.engine.whole import WholeModel

pytestmark = pytest.mark.engine
TOKENS = tuple(range(3, 43))


@pytest.fixture
def chain(random_model: Callable[..., Path], tmp_path: Path) -> Iterator[WiredChain]:
    found = WiredChain(random_model("llama", n_layers=6), tmp_path, nodes=2)
    yield found
    found.close()


def test_without_loss_it_says_what_the_whole_model_says(
    chain: WiredChain, random_model: Callable[..., Path]
) -> None:
    whole = WholeModel(random_model("llama", n_layers=6), n_slots=1, context=64, threads=1)
    [answer] = whole.greedy([TOKENS], 5, exact=True, stop_at_end=False).tokens
    whole.close()
    rows = range(len(TOKENS) - 1, len(TOKENS) + 4)
    logits = chain.logits([*TOKENS, *answer[:-1]], F32, rows)
    assert tuple(logits.argmax(axis=1)) == answer
    in_parts = chain.logits([*TOKENS, *answer[:-1]], F32, rows, chunk=16)
    assert np.allclose(in_parts, logits, atol=0.05)


def test_bytes_err_more_than_halves(chain: WiredChain) -> None:
    rows = range(len(TOKENS))
    exact, halves, blocks = (
        chain.logits(TOKENS, encoding, rows) for encoding in (F32, F16_SCALED, I8_BLOCKS)
    )
    of_halves, of_blocks = likeness(halves, exact), likeness(blocks, exact)
    assert 0 < np.median(of_halves.relative) < np.median(of_blocks.relative) < 0.2
    assert 0 < of_halves.divergence.mean() < of_blocks.divergence.mean()


def test_a_likeness_is_of_shapes_not_of_offsets() -> None:
    wanted = np.array([[0, 0, np.log(2)], [3, 1, 2]], np.float32)
    found = np.array([[10, 10, 10 + np.log(2)], [1, 3, 2]], np.float32)
    one = likeness(found, wanted)
    assert one.same.tolist() == [True, False]
    assert one.relative == pytest.approx([0, 2], abs=1e-6)
    p, q = np.exp([3, 1, 2]), np.exp([1, 3, 2])
    p, q = p / p.sum(), q / q.sum()
    assert one.divergence == pytest.approx([0, (p * np.log(p / q)).sum()], abs=1e-6)
    twice = told([one, Likeness(one.same, one.relative, one.divergence)])
    assert (twice["tokens"], twice["same_share"]) == (4, 0.5)


def test_costs_are_of_windows_of_both_sizes() -> None:
    found = costs(I8_BLOCKS, 64)
    assert found["row_bytes"] == row_bytes(I8_BLOCKS, 64) == 68
    assert min(found[f"{what}_us_{n}"] for what in ("encode", "decode") for n in (1, 512)) > 0
