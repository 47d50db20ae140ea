"""The manifest: what everybody who takes part must agree on about a model.

It is computed from the model's file alone, so two machines that have the same
file have the same manifest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec

from atoll.domain.errors import BadModel
from atoll.domain.ids import ModelId, ShardId
from atoll.model.architectures import layer_count, layer_of
from atoll.model.gguf_types import PULL_AGAIN, GgufFile
from atoll.model.parts import open_model
from atoll.model.shard import hash_shard

KV_VALUE_BYTES = 2
"""The KV cache holds f16."""

FILE_TYPES = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4_MOE",
    39: "NVFP4",
    40: "Q1_0",
    41: "Q2_0",
}
"""Names of `general.file_type` (llama.h, enum llama_ftype)."""


class ShardEntry(msgspec.Struct, frozen=True):
    """The shard of layers [first, last): its hash and its file's size."""

    first: int
    last: int
    shard: ShardId
    size_bytes: int


class Manifest(msgspec.Struct, frozen=True):
    """A model in numbers.

    `layer_bytes` are the weights of each layer, `layer_kv_bytes` the bytes that
    one cell of the KV cache takes in each layer (K and V, f16); both have
    n_layers entries. `other_bytes` are the weights outside the layers,
    `data_offset` is the byte of the file at which all weights begin.
    """

    model: ModelId
    size_bytes: int
    name: str
    architecture: str
    quantisation: str
    n_layers: int
    n_embd: int
    n_vocab: int
    context_train: int
    layer_bytes: tuple[int, ...]
    layer_kv_bytes: tuple[int, ...]
    other_bytes: int
    data_offset: int
    shards: tuple[ShardEntry, ...] = ()


def make_manifest(
    model_path: Path, model: ModelId, ranges: Iterable[tuple[int, int]] = ()
) -> Manifest:
    """The manifest of a model, with the hash of the shard of each range.

    Args:
        model_path: The whole model.
        model: Its SHA-256, which the caller knows from the store.
        ranges: Layer ranges [first, last) whose shards are hashed; each reads
            that part of the file once.

    Raises:
        CannotCut: The model cannot be cut at one of the ranges.
        BadModel: The file is not sound.
    """
    shards = []
    for first, last in sorted(set(ranges)):
        digest = hash_shard(model_path, first, last)
        shards.append(ShardEntry(first, last, digest.shard, digest.size_bytes))
    return msgspec.structs.replace(describe(open_model(model_path), model), shards=tuple(shards))


def describe(file: GgufFile, model: ModelId) -> Manifest:
    """The manifest of a model without any shard; reads no tensor.

    Raises:
        BadModel: The file lacks something that every model has.
    """
    arch, n_layers = file.architecture, layer_count(file)
    layer_bytes, other_bytes, n_vocab = [0] * n_layers, 0, 0
    for tensor in file.tensors:
        place = layer_of(tensor.name)
        if place is not None and place[0] < n_layers:
            layer_bytes[place[0]] += tensor.size_bytes
        else:
            other_bytes += tensor.size_bytes
        if tensor.name == "token_embd.weight":
            n_vocab = tensor.dims[-1]
    n_embd = file.integer(f"{arch}.embedding_length")
    context_train = file.integer(f"{arch}.context_length")
    if n_embd < 1 or context_train < 1:
        raise BadModel("the model claims an impossible width or context", hint=PULL_AGAIN)
    return Manifest(
        model=model,
        size_bytes=file.file_bytes,
        name=file.text("general.name", ""),
        architecture=arch,
        quantisation=quantisation(file),
        n_layers=n_layers,
        n_embd=n_embd,
        n_vocab=n_vocab,
        context_train=context_train,
        layer_bytes=tuple(layer_bytes),
        layer_kv_bytes=tuple(_layer_kv_bytes(file, n_layers)),
        other_bytes=other_bytes,
        data_offset=file.data_offset,
    )


def _layer_kv_bytes(file: GgufFile, n_layers: int) -> list[int]:
    """Bytes of a cell's keys and values in each layer, as llama.cpp lays them out.

    Source: llama-hparams.cpp, n_embd_k_gqa and n_embd_v_gqa: the number of KV
    heads times the width of a head, which is n_embd / n_head unless given.
    """
    arch = file.architecture
    heads = file.per_layer(f"{arch}.attention.head_count", n_layers)
    kv_heads = (
        file.per_layer(f"{arch}.attention.head_count_kv", n_layers)
        if f"{arch}.attention.head_count_kv" in file.metadata
        else heads
    )
    if min(heads) < 0 or heads[0] == 0 or min(kv_heads) < 0:
        raise BadModel("the model claims an impossible number of heads", hint=PULL_AGAIN)
    width = file.integer(f"{arch}.embedding_length") // heads[0]
    k_width = file.integer(f"{arch}.attention.key_length", width)
    v_width = file.integer(f"{arch}.attention.value_length", width)
    if min(k_width, v_width) < 1:
        raise BadModel("the model claims heads of an impossible width", hint=PULL_AGAIN)
    return [count * (k_width + v_width) * KV_VALUE_BYTES for count in kv_heads]


def quantisation(file: GgufFile) -> str:
    """Name of a model's file type, or of the tensor type that most of its bytes have."""
    name = FILE_TYPES.get(file.integer("general.file_type", -1))
    if name is not None:
        return name
    by_type: Counter[str] = Counter()
    for tensor in file.tensors:
        by_type[tensor.type.name] += tensor.size_bytes
    return by_type.most_common(1)[0][0] if by_type else "unknown"


def kv_bytes(manifest: Manifest, first: int, last: int, cells: int) -> int:
    """Bytes that the KV cache of layers [first, last) takes with `cells` cells."""
    return sum(manifest.layer_kv_bytes[first:last]) * cells


def weight_bytes(manifest: Manifest, first: int, last: int) -> int:
    """Bytes of the weights of layers [first, last), without embedding and head."""
    return sum(manifest.layer_bytes[first:last])
