"""Cuts a model: a shard is a GGUF file of its own that holds layers [first, last).

Cutting is deterministic, so everybody who has the model computes the same
shard and the same hash. It streams: memory use does not grow with the model.

- Layers are renumbered from 0, and `block_count` with them.
- Only the last shard has the vocabulary and the head. Where the head is
  separate, the embedding that the loader demands is zeros of a small type.
- Any other shard has neither: 32 dummy tokens and a zero embedding. The first
  is fed hidden states too; tokens are looked up in the model's own table.
- Every shard has the final norm, since the loader demands it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from atoll.domain.errors import BadModel, CannotCut
from atoll.domain.ids import ShardId
from atoll.model import gguf_writer
from atoll.model.architectures import (
    BOUNDLESS_WINDOW,
    EMBEDDING,
    OUTPUT,
    OUTPUT_NORM,
    Architecture,
    architecture_of,
    check_count,
    layer_count,
    layer_of,
    windowed_layers,
)
from atoll.model.files import atomic_file
from atoll.model.gguf_types import (
    BLOCK_OF,
    PULL_AGAIN,
    GgufFile,
    MetaValue,
    TensorInfo,
    TensorType,
    ValueType,
)
from atoll.model.gguf_writer import TensorSpec
from atoll.model.parts import SPLIT_KEYS, open_bytes, open_model
from atoll.model.source import ByteSource, FileSource

DUMMY_VOCABULARY = 32
"""Tokens of a shard without vocabulary; the engine loads no model with none."""
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ShardTensor:
    """A tensor of a shard and where its data comes from; `source` None means zeros."""

    spec: TensorSpec
    source: TensorInfo | None


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """What a shard will hold. `whole` says that it is the model's file itself."""

    first: int
    last: int
    n_layers: int
    whole: bool
    metadata: Mapping[str, MetaValue]
    tensors: tuple[ShardTensor, ...]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ShardDigest:
    """A shard's name, the SHA-256 of its file, and the file's size."""

    shard: ShardId
    size_bytes: int


def plan_shard(model: GgufFile, first: int, last: int) -> ShardPlan:
    """Lay out the shard of layers [first, last).

    Raises:
        CannotCut: The range is impossible, or the model cannot be cut there.
        BadModel: The model lacks something that every model has.
    """
    n_layers = layer_count(model)
    if not 0 <= first < last <= n_layers:
        raise CannotCut(
            f"layers {first} to {last} are not a part of a model with {n_layers} layers",
            hint="first must be below last, and both within the model",
        )
    if first == 0 and last == n_layers:
        return ShardPlan(
            first=0,
            last=last,
            n_layers=n_layers,
            whole=True,
            metadata=model.metadata,
            tensors=tuple(ShardTensor(_spec(t), t) for t in model.tensors),
            size_bytes=model.file_bytes,
        )
    row = architecture_of(model)
    check_count(row, n_layers)
    check_count(row, last - first)
    for edge in (first, last):
        if edge % row.cut_every and edge != n_layers:
            raise CannotCut(
                f"{row.name} models may be cut at every {row.cut_every} layers, not at {edge}",
                hint="choose another boundary",
            )
    metadata = _metadata(model, row, first, last, n_layers)
    tensors = tuple(_tensors(model, row, first, last, n_layers))
    return ShardPlan(
        first=first,
        last=last,
        n_layers=n_layers,
        whole=False,
        metadata=MappingProxyType(metadata),
        tensors=tensors,
        size_bytes=gguf_writer.file_bytes(metadata, [t.spec for t in tensors]),
    )


def _spec(tensor: TensorInfo) -> TensorSpec:
    return TensorSpec(tensor.name, tensor.dims, tensor.type)


def _metadata(
    model: GgufFile, row: Architecture, first: int, last: int, n_layers: int
) -> dict[str, MetaValue]:
    """The model's metadata in its order, with what the cut changes."""
    sliced = {f"{row.name}.{key}" for key in row.per_layer}
    changed = _changes(model, row, first, last, n_layers)
    out: dict[str, MetaValue] = {}
    for key, value in model.metadata.items():
        if key in changed:
            out[key] = changed.pop(key)
        elif key.startswith(SPLIT_KEYS) or (last < n_layers and key.startswith("tokenizer.")):
            continue
        elif key in sliced and value.type is ValueType.ARRAY:
            model.per_layer(key, n_layers)
            out[key] = MetaValue.array(value.element_type, value.items()[first:last])
        else:
            out[key] = value
    return out | changed


def _changes(
    model: GgufFile, row: Architecture, first: int, last: int, n_layers: int
) -> dict[str, MetaValue]:
    """Keys that get another value in a shard, or are new there."""
    changed = {f"{row.name}.block_count": _u32(last - first)}
    windowed = windowed_layers(model, row)
    if row.window and windowed:
        mine = windowed[first:last]
        if not any(mine):
            # The engine aborts on a window that no layer uses (llama-model.cpp, is_swa_any).
            mine = [row.window.always] * len(mine)
            size = BOUNDLESS_WINDOW if row.window.always else 0
            changed[f"{row.name}.{row.window.window_key}"] = _u32(size)
        changed[f"{row.name}.{row.window.pattern_key}"] = MetaValue.array(ValueType.BOOL, mine)
    if last < n_layers:
        changed["tokenizer.ggml.model"] = MetaValue.of(ValueType.STRING, "no_vocab")
        changed[f"{row.name}.vocab_size"] = _u32(DUMMY_VOCABULARY)
    changed["atoll.first_layer"] = _u32(first)
    changed["atoll.last_layer"] = _u32(last)
    changed["atoll.model_layers"] = _u32(n_layers)
    return changed


def _u32(value: int) -> MetaValue:
    return MetaValue.of(ValueType.UINT32, value)


def _tensors(
    model: GgufFile, row: Architecture, first: int, last: int, n_layers: int
) -> Iterator[ShardTensor]:
    """The shard's tensors, in the order of the model's file."""
    for needed in (EMBEDDING, OUTPUT_NORM):
        model.tensor(needed)
    tied = all(tensor.name != OUTPUT for tensor in model.tensors)
    for tensor in model.tensors:
        place = layer_of(tensor.name)
        if place is not None:
            if first <= place[0] < last:
                name = f"blk.{place[0] - first}.{place[1]}"
                yield ShardTensor(TensorSpec(name, tensor.dims, tensor.type), tensor)
        elif tensor.name == EMBEDDING:
            yield _embedding(tensor, last == n_layers, tied)
        elif tensor.name not in row.last_shard or last == n_layers:
            yield ShardTensor(_spec(tensor), tensor)


def _embedding(tensor: TensorInfo, is_last: bool, tied: bool) -> ShardTensor:
    """The embedding: real where it is the head too, else the smallest that the loader takes.

    A first shard is fed hidden states like any other: tokens are looked up in
    the model's own table, in front of it.
    """
    if is_last and tied:
        return ShardTensor(_spec(tensor), tensor)
    n_embd = tensor.dims[0]
    if not is_last:
        return ShardTensor(TensorSpec(EMBEDDING, (n_embd, DUMMY_VOCABULARY), TensorType.F32), None)
    small = TensorType.Q4_0 if n_embd % BLOCK_OF[TensorType.Q4_0][0] == 0 else TensorType.F16
    return ShardTensor(TensorSpec(EMBEDDING, tensor.dims, small), None)


@dataclass(frozen=True, slots=True)
class ShardPart:
    """Bytes of a shard's file in a row: `data`, or the model's from `source` on, or zeros."""

    size: int
    data: bytes = b""
    source: int | None = None


def shard_parts(plan: ShardPlan) -> Iterator[ShardPart]:
    """What the shard's file is made of, in order."""
    if plan.whole:
        yield ShardPart(plan.size_bytes, source=0)
        return
    head = gguf_writer.header(plan.metadata, [tensor.spec for tensor in plan.tensors])
    yield ShardPart(len(head), data=head)
    alignment = gguf_writer.alignment_of(plan.metadata)
    for tensor in plan.tensors:
        size = tensor.spec.size_bytes
        yield ShardPart(size, source=tensor.source.offset if tensor.source else None)
        yield ShardPart(gguf_writer.padding(size, alignment))


def stream_shard(plan: ShardPlan, model: ByteSource, start: int = 0) -> Iterator[bytes]:
    """The shard's file in pieces of at most 1 MiB (the head in one).

    Args:
        plan: What it will hold.
        model: The model's file, read in order.
        start: First byte of the shard's file that is wanted; nothing before it is read.

    Raises:
        BadModel: The model's file is shorter than it was when planned.
    """
    for piece in shard_parts(plan):
        skipped = min(start, piece.size)
        start -= skipped
        if skipped == piece.size:
            continue
        if piece.data:
            yield piece.data[skipped:]
        elif piece.source is not None:
            yield from _copied(model, piece.source + skipped, piece.size - skipped)
        else:
            yield from _zeros(piece.size - skipped)


def source_ranges(plan: ShardPlan, gap_bytes_max: int) -> list[tuple[int, int]]:
    """Which parts of the model's file a shard is copied from, as half-open ranges in order.

    Args:
        plan: What it will hold.
        gap_bytes_max: Ranges that are no further apart than this are joined.
    """
    found: list[tuple[int, int]] = []
    for piece in shard_parts(plan):
        if piece.source is None:
            continue
        if found and 0 <= piece.source - found[-1][1] <= gap_bytes_max:
            found[-1] = (found[-1][0], piece.source + piece.size)
        else:
            found.append((piece.source, piece.source + piece.size))
    return found


def _copied(model: ByteSource, offset: int, size: int) -> Iterator[bytes]:
    while size:
        chunk = model.read(offset, min(size, _CHUNK_BYTES))
        if not chunk:
            raise BadModel("the model file shrank while it was read", hint=PULL_AGAIN)
        size -= len(chunk)
        offset += len(chunk)
        yield chunk


def _zeros(size: int) -> Iterator[bytes]:
    whole = bytes(min(size, _CHUNK_BYTES))
    while size:
        chunk = whole[:size]
        size -= len(chunk)
        yield chunk


def write_shard(model_path: Path, first: int, last: int, out_path: Path) -> ShardDigest:
    """Cut layers [first, last) out of a model into a new file.

    The file appears under its name only when it is complete and on the disk.

    Raises:
        CannotCut: The model cannot be cut there.
        BadModel: The model's file is not sound.
    """
    model = open_model(model_path)
    plan = plan_shard(model, first, last)
    if plan.whole and model.part_bytes:
        raise CannotCut(
            f"the model is in {len(model.part_bytes)} files, and all of its layers are all of them",
            hint="use the model itself, or merge its parts with llama-gguf-split",
        )
    digest = hashlib.sha256()
    with open_bytes(model_path, model) as model_file, atomic_file(out_path) as out:
        for chunk in stream_shard(plan, FileSource(model_file)):
            digest.update(chunk)
            out.write(chunk)
    return ShardDigest(ShardId(digest.hexdigest()), plan.size_bytes)


def hash_shard(model_path: Path, first: int, last: int) -> ShardDigest:
    """As `write_shard`, but only the hash and the size; nothing is written.

    Raises:
        CannotCut: The model cannot be cut there.
        BadModel: The model's file is not sound.
    """
    model = open_model(model_path)
    plan = plan_shard(model, first, last)
    digest = hashlib.sha256()
    with open_bytes(model_path, model) as model_file:
        for chunk in stream_shard(plan, FileSource(model_file)):
            digest.update(chunk)
    return ShardDigest(ShardId(digest.hexdigest()), plan.size_bytes)
