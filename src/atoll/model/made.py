"""Made llama models of zeros, whose layers take as long as any of their size: to time machines by.

They have no vocabulary and say nothing; only layers from their middle are ever loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atoll.model import gguf_writer
from atoll.model.files import atomic_file
from atoll.model.gguf_types import MetaValue, TensorType, ValueType
from atoll.model.gguf_writer import TensorSpec

N_VOCAB = 32
CONTEXT = 1024


@dataclass(frozen=True, slots=True)
class MadeShape:
    """Layers, widths in values, heads, and how matrices are packed."""

    n_layers: int
    width: int
    ffn: int
    heads: int
    heads_kv: int
    type: TensorType


BARE = MadeShape(18, width=64, ffn=64, heads=2, heads_kv=1, type=TensorType.Q8_0)
"""Layers of next to no weights: they take what any layer takes however small it is."""


def plain_shape(packing: TensorType) -> MadeShape:
    """Layers of six million weights, packed so."""
    return MadeShape(5, width=768, ffn=2048, heads=12, heads_kv=4, type=packing)


def write_made(path: Path, shape: MadeShape) -> Path:
    """Write a model: the same bytes for the same shape.

    Args:
        path: Where to; appears only when complete.
        shape: Of what shape.
    """
    metadata, tensors = _metadata(shape), list(_tensors(shape))
    with atomic_file(path) as out:
        for chunk in gguf_writer.stream(metadata, tensors, ([_data(spec)] for spec in tensors)):
            out.write(chunk)
    return path


def _metadata(shape: MadeShape) -> dict[str, MetaValue]:
    counts = {
        "context_length": CONTEXT,
        "embedding_length": shape.width,
        "block_count": shape.n_layers,
        "feed_forward_length": shape.ffn,
        "rope.dimension_count": shape.width // shape.heads,
        "attention.head_count": shape.heads,
        "attention.head_count_kv": shape.heads_kv,
        "vocab_size": N_VOCAB,
    }
    return {
        "general.architecture": MetaValue.of(ValueType.STRING, "llama"),
        "general.name": MetaValue.of(ValueType.STRING, "made of zeros"),
        **{f"llama.{key}": MetaValue.of(ValueType.UINT32, n) for key, n in counts.items()},
        "llama.attention.layer_norm_rms_epsilon": MetaValue.of(ValueType.FLOAT32, 1e-5),
        "llama.rope.freq_base": MetaValue.of(ValueType.FLOAT32, 10_000.0),
    }


def _tensors(shape: MadeShape) -> Iterator[TensorSpec]:
    width, kv_width = shape.width, shape.width // shape.heads * shape.heads_kv

    def matrix(name: str, *dims: int) -> TensorSpec:
        return TensorSpec(f"{name}.weight", dims, shape.type)

    def norm(name: str) -> TensorSpec:
        return TensorSpec(f"{name}.weight", (width,), TensorType.F32)

    yield matrix("token_embd", width, N_VOCAB)
    for layer in range(shape.n_layers):
        block = f"blk.{layer}"
        yield norm(f"{block}.attn_norm")
        yield matrix(f"{block}.attn_q", width, width)
        yield matrix(f"{block}.attn_k", width, kv_width)
        yield matrix(f"{block}.attn_v", width, kv_width)
        yield matrix(f"{block}.attn_output", width, width)
        yield norm(f"{block}.ffn_norm")
        yield matrix(f"{block}.ffn_gate", width, shape.ffn)
        yield matrix(f"{block}.ffn_up", width, shape.ffn)
        yield matrix(f"{block}.ffn_down", shape.ffn, width)
    yield norm("output_norm")


def _data(spec: TensorSpec) -> bytes:
    """Norms of ones; matrices of zeros."""
    if spec.type is TensorType.F32:
        return np.ones(spec.dims[0], "<f4").tobytes()
    return bytes(spec.size_bytes)
