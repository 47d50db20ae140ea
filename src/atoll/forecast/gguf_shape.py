"""A model's shape from its own GGUF file, and the bits that its weights take.

Keys: github.com/ggml-org/ggml, docs/gguf.md; those of latent attention and of leading dense
layers as llama.cpp writes them (gguf-py, `constants.py`).
"""

from __future__ import annotations

import math

from atoll.domain.errors import BadRequest
from atoll.forecast.shapes import Latent, ModelShape, check_shape
from atoll.model.gguf_types import GgufFile, ValueType


def shape_of_gguf(file: GgufFile, *, name: str) -> ModelShape:
    """The shape of a model's file.

    Args:
        file: Its head.
        name: What to call the model.

    Raises:
        BadRequest: It lacks what a decoder has.
    """
    found = _Keys(file)
    heads = found.count("attention.head_count")
    hidden = found.count("embedding_length")
    experts = found.count("expert_count", 0)
    tensors = {tensor.name: tensor for tensor in file.tensors}
    embedding = tensors.get("token_embd.weight")
    if embedding is None:
        raise BadRequest(f"{name} has no embedding", hint="give a whole model, not a part of one")
    ffn = found.count("feed_forward_length", 0)
    shape = ModelShape(
        name=name,
        layers=found.count("block_count"),
        hidden=hidden,
        heads=heads,
        kv_heads=found.count("attention.head_count_kv", heads),
        head_dim=found.count("attention.key_length", hidden // max(1, heads)),
        ffn=ffn,
        vocab=embedding.dims[1],
        tied="output.weight" not in tensors,
        experts=experts,
        experts_used=found.count("expert_used_count", 0),
        shared_experts=found.count("expert_shared_count", 0) if experts else 0,
        expert_ffn=found.count("expert_feed_forward_length", ffn) if experts else 0,
        dense_layers=found.count("leading_dense_block_count", 0) if experts else 0,
        latent=_latent(found),
        window=found.count("attention.sliding_window", 0),
        params=float(sum(math.prod(tensor.dims) for tensor in file.tensors)),
    )
    check_shape(shape)
    return shape


def bits_of_gguf(file: GgufFile) -> float:
    """Bits of a weight, on average over the file."""
    weights = sum(math.prod(tensor.dims) for tensor in file.tensors)
    return 8 * sum(tensor.size_bytes for tensor in file.tensors) / weights


def _latent(found: _Keys) -> Latent | None:
    kv_rank = found.count("attention.kv_lora_rank", 0)
    if not kv_rank:
        return None
    rope = found.count("rope.dimension_count")
    key = found.count("attention.key_length_mla", found.count("attention.key_length"))
    value = found.count("attention.value_length_mla", found.count("attention.value_length"))
    return Latent(found.count("attention.q_lora_rank", 0), kv_rank, rope, key - rope, value)


class _Keys:
    """Whole numbers of a file's metadata, by their key without the architecture."""

    def __init__(self, file: GgufFile) -> None:
        self._file = file
        architecture = file.metadata.get("general.architecture")
        if architecture is None or architecture.type is not ValueType.STRING:
            raise BadRequest("the model's file does not say its architecture")
        self._prefix = f"{architecture.scalar()}."

    def count(self, key: str, missing: int | None = None) -> int:
        """A number; of a list, one for each layer, the largest.

        Raises:
            BadRequest: It is not there, and nothing stands for it.
        """
        value = self._file.metadata.get(self._prefix + key)
        if value is None:
            if missing is None:
                raise BadRequest(f"the model's file has no {self._prefix}{key}")
            return missing
        numbers = value.items() if value.type is ValueType.ARRAY else [value.scalar()]
        if not numbers or not all(isinstance(n, int) and n >= 0 for n in numbers):
            raise BadRequest(f"the model's file has a {self._prefix}{key} that is no number")
        return max(int(n) for n in numbers)
