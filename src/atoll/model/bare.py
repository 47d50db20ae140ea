"""A llama model of next to no weights: its layers take what any layer takes however small it is.

It has no vocabulary and says nothing; only layers from its middle are ever loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from atoll.model import gguf_writer
from atoll.model.files import atomic_file
from atoll.model.gguf_types import MetaValue, TensorType, ValueType
from atoll.model.gguf_writer import TensorSpec

N_LAYERS = 18
WIDTH = 64
"""Of hidden states, and of the feed-forward block."""
N_HEAD, N_HEAD_KV = 2, 1
N_VOCAB = 32
CONTEXT = 1024


def write_bare(path: Path) -> Path:
    """Write the model: the same bytes every time, 360 kB.

    Args:
        path: Where to; appears only when complete.
    """
    metadata, tensors = _metadata(), list(_tensors())
    with atomic_file(path) as out:
        for chunk in gguf_writer.stream(metadata, tensors, ([_data(spec)] for spec in tensors)):
            out.write(chunk)
    return path


def _metadata() -> dict[str, MetaValue]:
    counts = {
        "context_length": CONTEXT,
        "embedding_length": WIDTH,
        "block_count": N_LAYERS,
        "feed_forward_length": WIDTH,
        "rope.dimension_count": WIDTH // N_HEAD,
        "attention.head_count": N_HEAD,
        "attention.head_count_kv": N_HEAD_KV,
        "vocab_size": N_VOCAB,
    }
    return {
        "general.architecture": MetaValue.of(ValueType.STRING, "llama"),
        "general.name": MetaValue.of(ValueType.STRING, "bare layers"),
        "general.file_type": MetaValue.of(ValueType.UINT32, 7),
        **{f"llama.{key}": MetaValue.of(ValueType.UINT32, n) for key, n in counts.items()},
        "llama.attention.layer_norm_rms_epsilon": MetaValue.of(ValueType.FLOAT32, 1e-5),
        "llama.rope.freq_base": MetaValue.of(ValueType.FLOAT32, 10_000.0),
    }


def _tensors() -> Iterator[TensorSpec]:
    def matrix(name: str, *dims: int) -> TensorSpec:
        return TensorSpec(f"{name}.weight", dims, TensorType.Q8_0)

    def norm(name: str) -> TensorSpec:
        return TensorSpec(f"{name}.weight", (WIDTH,), TensorType.F32)

    kv_width = WIDTH // N_HEAD * N_HEAD_KV
    yield matrix("token_embd", WIDTH, N_VOCAB)
    for layer in range(N_LAYERS):
        block = f"blk.{layer}"
        yield norm(f"{block}.attn_norm")
        yield matrix(f"{block}.attn_q", WIDTH, WIDTH)
        yield matrix(f"{block}.attn_k", WIDTH, kv_width)
        yield matrix(f"{block}.attn_v", WIDTH, kv_width)
        yield matrix(f"{block}.attn_output", WIDTH, WIDTH)
        yield norm(f"{block}.ffn_norm")
        yield matrix(f"{block}.ffn_gate", WIDTH, WIDTH)
        yield matrix(f"{block}.ffn_up", WIDTH, WIDTH)
        yield matrix(f"{block}.ffn_down", WIDTH, WIDTH)
    yield norm("output_norm")


def _data(spec: TensorSpec) -> bytes:
    """Norms of ones; matrices of zeros, which take as long as any."""
    if spec.type is TensorType.F32:
        return np.ones(spec.dims[0], "<f4").tobytes()
    return bytes(spec.size_bytes)
