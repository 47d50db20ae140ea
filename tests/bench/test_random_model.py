from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from atoll.engine.batch import Span
from atoll.engine.llama import Context, ContextOptions, Model
from atoll.model.gguf import open_gguf
from bench import random_model as large


@pytest.fixture
def made(
    tmp_path: Path, random_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The same model, made small."""
    sizes = {"N_LAYERS": 2, "N_EMBD": 64, "N_FF": 96, "N_HEAD": 4, "N_HEAD_KV": 2}
    for name, value in sizes.items():
        monkeypatch.setattr(large, name, value)
    path = large.make_llama_1b(tmp_path / "a" / "m.gguf", random_model())
    other = large.make_llama_1b(tmp_path / "b" / "m.gguf", random_model())
    assert path.read_bytes() == other.read_bytes()
    return path


def test_its_blocks_hold_centred_weights_of_the_right_size(made: Path) -> None:
    tensor = next(t for t in gguf.GGUFReader(made).tensors if t.name == "token_embd.weight")
    weights = gguf.dequantize(tensor.data, tensor.tensor_type)
    assert abs(weights.mean()) < 0.01 * weights.std() * 3
    assert weights.std() == pytest.approx(1 / np.sqrt(64), rel=0.05)


def test_a_model_that_is_there_is_not_made_again(
    made: Path, random_model: Callable[..., Path]
) -> None:
    before = made.stat().st_mtime_ns
    assert large.make_llama_1b(made, random_model()) == made
    assert made.stat().st_mtime_ns == before


def test_the_real_size_is_about_1_1_billion() -> None:
    weights = sum(int(np.prod(spec.dims)) for spec in large._tensors(49152))
    assert weights == pytest.approx(1.1e9, rel=0.05)


@pytest.mark.engine
def test_the_engine_computes_with_it(made: Path) -> None:
    assert open_gguf(made).architecture == "llama"
    model = Model(made)
    options = ContextOptions(
        n_slots=1, context=256, rows_max=8, threads=1, threads_large=1, outputs_max=8
    )
    context = Context(model, options, tap=False)
    tokens = np.arange(3, 11, dtype=np.int32)
    logits = context.logits_of_tokens([Span(0, 0, 8)], tokens, [7], exact=True)[0].copy()
    context.close()
    model.close()
    assert np.isfinite(logits).all()
    assert 0.3 < logits.std() < 3
