"""Writes GGUF version 3, streaming and deterministic: the same input, the same bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from atoll.model.gguf_types import (
    ALIGNMENT_DEFAULT,
    MAGIC,
    MetaValue,
    TensorType,
    ValueType,
    tensor_bytes,
)

VERSION = 3


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor to write; `dims` are elements per dimension, fastest-varying first."""

    name: str
    dims: tuple[int, ...]
    type: TensorType

    @property
    def size_bytes(self) -> int:
        """Bytes of its data without padding."""
        return tensor_bytes(self.dims, self.type)


def alignment_of(metadata: Mapping[str, MetaValue]) -> int:
    """The alignment that `general.alignment` asks for, or the format's default, bytes."""
    value = metadata.get("general.alignment")
    return ALIGNMENT_DEFAULT if value is None else int(value.scalar())


def header(metadata: Mapping[str, MetaValue], tensors: Sequence[TensorSpec]) -> bytes:
    """Everything in front of the tensors' data, padded to where the data starts."""
    alignment = alignment_of(metadata)
    parts = [MAGIC, struct.pack("<IQQ", VERSION, len(tensors), len(metadata))]
    for key, value in metadata.items():
        parts += [_string(key), struct.pack("<I", value.type), value.raw]
    offset = 0
    for tensor in tensors:
        n_dims = len(tensor.dims)
        parts += [
            _string(tensor.name),
            struct.pack(f"<I{n_dims}QIQ", n_dims, *tensor.dims, tensor.type, offset),
        ]
        offset += tensor.size_bytes + padding(tensor.size_bytes, alignment)
    joined = b"".join(parts)
    return joined + bytes(padding(len(joined), alignment))


def file_bytes(metadata: Mapping[str, MetaValue], tensors: Sequence[TensorSpec]) -> int:
    """Size of the whole file, bytes."""
    alignment = alignment_of(metadata)
    data = sum(t.size_bytes + padding(t.size_bytes, alignment) for t in tensors)
    return len(header(metadata, tensors)) + data


def stream(
    metadata: Mapping[str, MetaValue],
    tensors: Sequence[TensorSpec],
    data: Iterable[Iterable[bytes]],
) -> Iterator[bytes]:
    """The file in pieces.

    Args:
        metadata: Written in its order.
        tensors: Written in their order.
        data: One stream of chunks for each tensor, in the same order.

    Raises:
        ValueError: A tensor's data is shorter or longer than its shape says.
    """
    alignment = alignment_of(metadata)
    yield header(metadata, tensors)
    for tensor, chunks in zip(tensors, data, strict=True):
        written = 0
        for chunk in chunks:
            written += len(chunk)
            yield chunk
        if written != tensor.size_bytes:
            raise ValueError(f"{tensor.name}: {written} bytes instead of {tensor.size_bytes}")
        yield bytes(padding(written, alignment))


def padding(size: int, alignment: int) -> int:
    """Bytes from `size` to the next multiple of `alignment`."""
    return -size % alignment


def _string(text: str) -> bytes:
    return MetaValue.of(ValueType.STRING, text).raw
