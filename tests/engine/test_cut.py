"""Cut models compute what the whole model computes, to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from atoll.engine.batch import Span
from atoll.engine.embedding import EmbeddingTable
from atoll.engine.llama import Context, ContextOptions, Model
from atoll.model.architectures import embedding_scale
from atoll.model.gguf import open_gguf
from atoll.model.shard import write_shard

pytestmark = pytest.mark.engine

Logits = NDArray[np.float32]
N_TOKENS = 100
"""Three windows of the random gemma3 model."""
CALLS = [(0, 50), (50, 63), *((i, i + 1) for i in range(63, N_TOKENS))]
"""Prefill in two calls, then one token a call: positions [first, last)."""


def context(model: Model, *, tap: bool) -> Context:
    options = ContextOptions(
        n_slots=1, context=256, rows_max=64, threads=1, threads_large=1, outputs_max=64
    )
    return Context(model, options, tap=tap)


def tokens(n_vocab: int) -> NDArray[np.int32]:
    return np.random.default_rng(1).integers(3, n_vocab, N_TOKENS).astype(np.int32)


def run_whole(path: Path) -> list[Logits]:
    """Logits of the last row of each call, by the uncut model fed with tokens."""
    model = Model(path)
    whole = context(model, tap=False)
    ids = tokens(open_gguf(path).tensor("token_embd.weight").dims[1])
    out = [
        whole.logits_of_tokens([Span(0, a, b - a)], ids[a:b], [b - a - 1], exact=True)[0].copy()
        for a, b in CALLS
    ]
    whole.close()
    model.close()
    return out


def run_cut(path: Path, cuts: list[int], folder: Path) -> list[Logits]:
    """The same by a chain of shards, each fed with what the one before it gave."""
    gguf = open_gguf(path)
    n_layers = gguf.integer(f"{gguf.architecture}.block_count")
    embedding = gguf.tensor("token_embd.weight")
    table = EmbeddingTable(path, embedding, scale=embedding_scale(gguf))
    models, stages = [], []
    for first, last in pairwise([0, *cuts, n_layers]):
        shard = folder / f"{first}-{last}.gguf"
        write_shard(path, first, last, shard)
        models.append(Model(shard))
        assert models[-1].n_layers == last - first
        stages.append(context(models[-1], tap=last < n_layers))
    ids = tokens(embedding.dims[1])
    out = []
    for a, b in CALLS:
        span = Span(0, a, b - a)
        rows = np.empty((b - a, table.n_embd), np.float32)
        table.rows_into(rows, ids[a:b].tolist())
        for stage in stages[:-1]:
            stage.inputs(b - a)[:] = rows
            rows = stage.hidden([span], exact=True).copy()
        stages[-1].inputs(b - a)[:] = rows
        out.append(stages[-1].logits([span], [b - a - 1], exact=True)[0].copy())
    for stage in stages:
        stage.close()
    for model in models:
        model.close()
    return out


def assert_equal_bits(path: Path, cuts: list[int], folder: Path) -> None:
    for call, whole, cut in zip(CALLS, run_whole(path), run_cut(path, cuts, folder), strict=True):
        assert np.isfinite(whole).all()
        assert whole.std() > 0.1
        assert np.array_equal(whole, cut), f"positions {call}: {abs(whole - cut).max()}"


LLAMAS: list[tuple[dict[str, object], list[int]]] = [
    ({}, [2, 4]),
    ({"tied": False}, [1, 5]),
    ({"rope_freqs": True, "n_head_kv": (2,) * 6, "n_ff": (96,) * 6}, [1, 2, 3, 4, 5]),
]


@pytest.mark.parametrize(("shape", "cuts"), LLAMAS)
def test_llama(
    random_model: Callable[..., Path], tmp_path: Path, shape: dict[str, object], cuts: list[int]
) -> None:
    assert_equal_bits(random_model("llama", **shape), cuts, tmp_path)


GEMMAS: list[tuple[dict[str, object], list[int]]] = [
    # On the pattern (three layers, the third sees everything) and off it.
    ({}, [3, 6]),
    ({}, [1, 4]),
    # Layers 2 and 5 alone have no window at all, layers 0, 1 and 3, 4 only windows.
    ({}, [2, 3, 5, 6]),
    # The engine's own pattern of six, and one that follows no period.
    ({"window_pattern": None, "tied": False}, [5, 6]),
    ({"window_pattern": (True, False, True, True, False, False, True, True)}, [2, 5]),
    # No window in the whole model.
    ({"window": 0}, [3]),
]


@pytest.mark.parametrize(("shape", "cuts"), GEMMAS)
def test_gemma3_past_its_window(
    random_model: Callable[..., Path], tmp_path: Path, shape: dict[str, object], cuts: list[int]
) -> None:
    assert_equal_bits(random_model("gemma3", **shape), cuts, tmp_path)


def test_the_window_matters_in_these_models(random_model: Callable[..., Path]) -> None:
    """Else the tests above would not see a pattern that was cut wrongly."""
    narrow, wide = run_whole(random_model("gemma3")), run_whole(random_model("gemma3", window=4096))
    assert np.array_equal(narrow[0], wide[0]) is False
    shifted = run_whole(
        random_model("gemma3", window_pattern=(False, True, True, False, True, True, False, True))
    )
    assert not np.array_equal(narrow[-1], shifted[-1])


def test_the_demo_model_in_three(demo_model: Path, tmp_path: Path) -> None:
    assert_equal_bits(demo_model, [10, 20], tmp_path)
