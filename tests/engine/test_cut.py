"""Cut models compute what the whole model computes, to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support.split_models import split_model

from atoll.engine.batch import Span
from atoll.engine.embedding import EmbeddingTable
from atoll.engine.llama import Context, ContextOptions, Model
from atoll.model.architectures import TABLE, embedding_scale
from atoll.model.parts import open_model, tensor_file
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
    ids = tokens(open_model(path).tensor("token_embd.weight").dims[1])
    out = [
        whole.logits_of_tokens([Span(0, a, b - a)], ids[a:b], [b - a - 1], exact=True)[0].copy()
        for a, b in CALLS
    ]
    whole.close()
    model.close()
    return out


def run_cut(path: Path, cuts: list[int], folder: Path) -> list[Logits]:
    """The same by a chain of shards, each fed with what the one before it gave."""
    gguf = open_model(path)
    n_layers = gguf.integer(f"{gguf.architecture}.block_count")
    embedding = gguf.tensor("token_embd.weight")
    place = tensor_file(path, gguf, embedding)
    table = EmbeddingTable(*place, scale=embedding_scale(gguf))
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


YARN: dict[str, object] = {
    "keys": (
        ("rope.scaling.type", "yarn"),
        ("rope.scaling.factor", 4.0),
        ("rope.scaling.original_context_length", 32),
    )
}
TEMPERED: dict[str, object] = {
    "keys": (
        ("attention.temperature_scale", 0.1),
        ("rope.scaling.type", "yarn"),
        ("rope.scaling.factor", 16.0),
        ("rope.scaling.original_context_length", 32),
        ("rope.scaling.yarn_beta_fast", 32.0),
        ("rope.scaling.yarn_beta_slow", 1.0),
        ("rope.scaling.yarn_log_multiplier", 1.0),
    )
}
OTHERS: list[tuple[str, dict[str, object], list[int]]] = [
    # Mistral: heads of their own width, and a window in the file that the engine ignores.
    ("llama", {"head_width": 32, "tied": False, "window": 32}, [1, 4]),
    ("llama", {"head_width": 32, "n_expert": 4, "tied": False} | YARN, [2, 3]),
    ("mistral3", {"head_width": 32, "tied": False} | TEMPERED, [1, 4]),
    ("mistral3", {"rope_freqs": True, "n_head_kv": (2,) * 6}, [3]),
    ("qwen2", {}, [1, 4]),
    ("qwen2", {"tied": False, "output_bias": True} | YARN, [2, 3]),
    ("qwen3", {"head_width": 32}, [1, 4]),
    ("qwen3", {"head_width": 32, "tied": False} | YARN, [5]),
    ("qwen3moe", {}, [1, 4]),
    ("qwen3moe", {"tied": False, "n_ff": (96,) * 6, "n_expert_used": (3,) * 6}, [2, 3]),
]


@pytest.mark.parametrize(("architecture", "shape", "cuts"), OTHERS)
def test_architectures_without_windows(
    random_model: Callable[..., Path],
    tmp_path: Path,
    architecture: str,
    shape: dict[str, object],
    cuts: list[int],
) -> None:
    assert_equal_bits(random_model(architecture, **shape), cuts, tmp_path)


GEMMAS_2: list[tuple[dict[str, object], list[int]]] = [
    # On the pattern (every second layer sees everything) and off it.
    ({}, [2, 4]),
    ({}, [1, 4]),
    # Layers 1 and 5 alone have no window, 2 and 6 alone have only one.
    ({}, [1, 2, 3, 5, 6]),
    ({"window_pattern": 3, "keys": (("final_logit_softcapping", 5.0),)}, [2, 5]),
    ({"window_pattern": (False, False, True, False, False, True, True)}, [2, 4]),
]


@pytest.mark.parametrize(("shape", "cuts"), GEMMAS_2)
def test_gemma2_past_its_window(
    random_model: Callable[..., Path], tmp_path: Path, shape: dict[str, object], cuts: list[int]
) -> None:
    assert_equal_bits(random_model("gemma2", **shape), cuts, tmp_path)


@pytest.mark.parametrize("bounds", [[0, 30], [1, 50]])
@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_a_model_in_several_files(
    random_model: Callable[..., Path], tmp_path: Path, architecture: str, bounds: list[int]
) -> None:
    """The engine reads the parts by itself; the embedding is in the second, then in the first."""
    parts = split_model(random_model(architecture), tmp_path, bounds)
    assert_equal_bits(parts[0], [1, 4], tmp_path)


def test_every_architecture_is_cut_here() -> None:
    assert {"llama", "gemma2", "gemma3"} | {name for name, _, _ in OTHERS} == set(TABLE)


def test_the_window_matters_in_these_models(random_model: Callable[..., Path]) -> None:
    """Else the tests above would not see a pattern that was cut wrongly."""
    narrow, wide = run_whole(random_model("gemma3")), run_whole(random_model("gemma3", window=4096))
    assert np.array_equal(narrow[0], wide[0]) is False
    shifted = run_whole(
        random_model("gemma3", window_pattern=(False, True, True, False, True, True, False, True))
    )
    assert not np.array_equal(narrow[-1], shifted[-1])


def test_the_window_matters_in_gemma2_too(random_model: Callable[..., Path]) -> None:
    narrow = run_whole(random_model("gemma2"))
    wide = run_whole(random_model("gemma2", window=4096))
    assert np.array_equal(narrow[0], wide[0]) is False
    shifted = run_whole(random_model("gemma2", window_pattern=(False, True) * 3 + (False,)))
    assert not np.array_equal(narrow[-1], shifted[-1])


@pytest.mark.parametrize("architecture", ["mistral3", "llama"])
def test_the_settings_of_rope_and_attention_matter(
    random_model: Callable[..., Path], architecture: str
) -> None:
    keys = TEMPERED if architecture == "mistral3" else YARN
    plain, tuned = random_model(architecture), random_model(architecture, **keys)
    assert not np.array_equal(run_whole(plain)[-1], run_whole(tuned)[-1])


def test_experts_matter(random_model: Callable[..., Path]) -> None:
    three, two = random_model("qwen3moe"), random_model("qwen3moe", n_expert_used=2)
    assert not np.array_equal(run_whole(three)[-1], run_whole(two)[-1])


def test_the_demo_model_in_three(demo_model: Path, tmp_path: Path) -> None:
    assert_equal_bits(demo_model, [10, 20], tmp_path)
