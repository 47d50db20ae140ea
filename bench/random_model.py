"""A llama model of 1.1 billion random weights: what users run, without a download.

Speed does not depend on what weights say, only on their number and format.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from atoll.model import gguf_writer
from atoll.model.files import atomic_file
from atoll.model.gguf import open_gguf
from atoll.model.gguf_types import MetaValue, TensorType, ValueType
from atoll.model.gguf_writer import TensorSpec

N_LAYERS, N_EMBD, N_FF, N_HEAD, N_HEAD_KV = 22, 2048, 5632, 32, 4
CONTEXT = 8192
BLOCK_VALUES, BLOCK_BYTES = 32, 18
Q4_0_SPREAD = 4.18
"""Standard deviation of a block's whole numbers: -7 to 7, and 0 twice as often."""
_CHUNK_BLOCKS = 1 << 16


def make_llama_1b(path: Path, vocabulary_from: Path, *, seed: int = 0) -> Path:
    """Write the model unless it is there already; tells its progress on stderr.

    22 layers of the shape that 1.1-billion-parameter llama models have, with
    Q4_0 matrices (about 600 MB). The weights of each matrix have the standard
    deviation 1 / sqrt(inputs), so that hidden states stay finite.

    Args:
        path: Where to; appears only when complete.
        vocabulary_from: A GGUF file whose `tokenizer.*` metadata is taken over.
        seed: The same seed gives the same file.
    """
    if path.exists():
        return path
    vocabulary = {
        key: value
        for key, value in open_gguf(vocabulary_from).metadata.items()
        if key.startswith("tokenizer.")
    }
    n_vocab = vocabulary["tokenizer.ggml.tokens"].count
    metadata, tensors = _metadata(n_vocab) | vocabulary, list(_tensors(n_vocab))
    total = gguf_writer.file_bytes(metadata, tensors)
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    done, shown = 0, -1
    with atomic_file(path) as out:
        data = (_data(rng, spec) for spec in tensors)
        for chunk in gguf_writer.stream(metadata, tensors, data):
            out.write(chunk)
            done += len(chunk)
            if done * 20 // total != shown:
                shown = done * 20 // total
                print(f"random model: {done >> 20} of {total >> 20} MiB", file=sys.stderr)
    return path


def _metadata(n_vocab: int) -> dict[str, MetaValue]:
    counts = {
        "context_length": CONTEXT,
        "embedding_length": N_EMBD,
        "block_count": N_LAYERS,
        "feed_forward_length": N_FF,
        "rope.dimension_count": N_EMBD // N_HEAD,
        "attention.head_count": N_HEAD,
        "attention.head_count_kv": N_HEAD_KV,
        "vocab_size": n_vocab,
    }
    return {
        "general.architecture": MetaValue.of(ValueType.STRING, "llama"),
        "general.name": MetaValue.of(ValueType.STRING, "random llama 1.1B"),
        "general.file_type": MetaValue.of(ValueType.UINT32, 2),
        **{f"llama.{key}": MetaValue.of(ValueType.UINT32, n) for key, n in counts.items()},
        "llama.attention.layer_norm_rms_epsilon": MetaValue.of(ValueType.FLOAT32, 1e-5),
        "llama.rope.freq_base": MetaValue.of(ValueType.FLOAT32, 10_000.0),
    }


def _tensors(n_vocab: int) -> Iterator[TensorSpec]:
    def matrix(name: str, *dims: int) -> TensorSpec:
        return TensorSpec(f"{name}.weight", dims, TensorType.Q4_0)

    def norm(name: str) -> TensorSpec:
        return TensorSpec(f"{name}.weight", (N_EMBD,), TensorType.F32)

    kv_width = N_EMBD // N_HEAD * N_HEAD_KV
    yield matrix("token_embd", N_EMBD, n_vocab)
    for layer in range(N_LAYERS):
        block = f"blk.{layer}"
        yield norm(f"{block}.attn_norm")
        yield matrix(f"{block}.attn_q", N_EMBD, N_EMBD)
        yield matrix(f"{block}.attn_k", N_EMBD, kv_width)
        yield matrix(f"{block}.attn_v", N_EMBD, kv_width)
        yield matrix(f"{block}.attn_output", N_EMBD, N_EMBD)
        yield norm(f"{block}.ffn_norm")
        yield matrix(f"{block}.ffn_gate", N_EMBD, N_FF)
        yield matrix(f"{block}.ffn_up", N_EMBD, N_FF)
        yield matrix(f"{block}.ffn_down", N_FF, N_EMBD)
    yield norm("output_norm")


def _data(rng: np.random.Generator, spec: TensorSpec) -> Iterator[bytes]:
    if spec.type is TensorType.F32:
        yield np.ones(spec.dims[0], "<f4").tobytes()
        return
    middle = 1 / (Q4_0_SPREAD * np.sqrt(spec.dims[0]))
    left = spec.size_bytes // BLOCK_BYTES
    while left:
        n = min(left, _CHUNK_BLOCKS)
        blocks = np.frombuffer(rng.bytes(n * BLOCK_BYTES), np.uint8).reshape(n, BLOCK_BYTES).copy()
        # -8 becomes 0, so that the mean is 0: else every token ends up at the same few logits.
        blocks[(blocks & 0x0F) == 0] |= 0x08
        blocks[(blocks & 0xF0) == 0] |= 0x80
        scales = (middle * rng.uniform(0.75, 1.25, n)).astype("<f2")
        blocks[:, :2] = scales.view(np.uint8).reshape(n, 2)
        yield blocks.tobytes()
        left -= n
