from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from bench.draft_model import make_q4_0

from atoll.store.layout import Store


def matrices(path: Path) -> dict[str, tuple[str, np.ndarray]]:
    return {
        t.name: (t.tensor_type.name, gguf.dequantize(t.data, t.tensor_type))
        for t in gguf.GGUFReader(path).tensors
        if len(t.shape) > 1
    }


def test_the_draft_is_the_same_model_in_four_bits(
    tmp_path: Path, random_model: Callable[..., Path]
) -> None:
    source = random_model()
    made = make_q4_0(Store(tmp_path), source)
    before, after = matrices(source), matrices(made)
    assert list(after) == list(before)
    assert {kind for kind, _ in after.values()} == {"Q4_0"}
    for name, (_, weights) in before.items():
        found = after[name][1]
        assert found.shape == weights.shape
        # Blocks of 32 in sixteen steps each.
        assert np.abs(found - weights).max() <= 0.15 * np.abs(weights).max()
    again = made.stat().st_mtime_ns
    assert make_q4_0(Store(tmp_path), source).stat().st_mtime_ns == again


@pytest.mark.engine
def test_the_engine_reads_it_with_the_same_tokeniser(
    tmp_path: Path, random_model: Callable[..., Path]
) -> None:
    source = random_model()
    made = make_q4_0(Store(tmp_path), source)
    texts = [_tokens(path, "Hello there") for path in (source, made)]
    assert texts[0] == texts[1]


def _tokens(path: Path, text: str) -> list[int]:
    from atoll.engine.whole import WholeModel

    whole = WholeModel(path, n_slots=1, context=64, threads=1)
    found = whole.vocabulary.tokens(text, add_special=True, parse_special=False)
    assert whole.greedy([found], 2).tokens[0]
    whole.close()
    return found
