"""Reads GGUF files, of versions 2 and 3, and believes nothing they claim.

Every count, length, size and offset is checked against a bound and against
the size of the file before anything is read or allocated for it. The checks
are at least as strict as the engine's loader, which aborts on some of them.
"""

from __future__ import annotations

import struct
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from atoll.domain.errors import BadModel
from atoll.model.gguf_types import (
    ALIGNMENT_DEFAULT,
    BLOCK_OF,
    FORMAT_OF,
    MAGIC,
    PULL_AGAIN,
    GgufFile,
    MetaValue,
    TensorInfo,
    TensorType,
    ValueType,
    tensor_bytes,
)
from atoll.model.source import ByteSource, FileSource

__all__ = [
    "GgufFile",
    "MetaValue",
    "TensorInfo",
    "TensorType",
    "ValueType",
    "open_gguf",
    "read_gguf",
    "read_head",
]

HEADER_BYTES_MAX = 64 * 1024 * 1024
"""Metadata and tensor table together. Gemma 3's 262,144 tokens need about 10 MiB."""
KEYS_MAX = 65_536
KEY_BYTES_MAX = 65_535
"""The format's own bound on the length of a key."""
TENSORS_MAX = 65_536
TENSOR_NAME_BYTES_MAX = 63
"""The engine's names hold 64 bytes with the zero at the end (ggml.h, GGML_MAX_NAME)."""
DIMS_MAX = 4
ELEMENTS_MAX = 2**62
ALIGNMENT_MAX = 1 << 20
READ_BYTES_MIN = 1 << 18
"""Least that is read at once. It grows by a quarter of what was read, so that
a head behind a network takes few reads, and little more than the head is read."""


class _Cursor:
    """Reads forward through the head of a file, never past its bound."""

    def __init__(self, source: ByteSource) -> None:
        self.file_bytes = source.size_bytes
        self._source = source
        self._buffer = bytearray()
        self.at = 0

    def need(self, size: int, what: str) -> None:
        """Have `size` more bytes in the buffer, or say which part of the file lacks them."""
        end = self.at + size
        if end > self.file_bytes:
            raise BadModel(
                f"the model file ends at byte {self.file_bytes} inside {what}", hint=PULL_AGAIN
            )
        if end > HEADER_BYTES_MAX:
            raise BadModel(
                f"the head of the model file is larger than {HEADER_BYTES_MAX >> 20} MiB ({what})",
                hint="get another file of the model",
            )
        while len(self._buffer) < end:
            have = len(self._buffer)
            more = self._source.read(have, max(READ_BYTES_MIN, have // 4, end - have))
            if not more:
                raise BadModel(
                    f"the model file shrank while it was read, inside {what}", hint=PULL_AGAIN
                )
            self._buffer += more

    def take(self, size: int, what: str) -> bytes:
        self.need(size, what)
        part = bytes(self._buffer[self.at : self.at + size])
        self.at += size
        return part

    def u32(self, what: str) -> int:
        return int(struct.unpack("<I", self.take(4, what))[0])

    def u64(self, what: str) -> int:
        return int(struct.unpack("<Q", self.take(8, what))[0])

    def string(self, limit: int, what: str) -> bytes:
        size = self.u64(what)
        if size > limit:
            raise BadModel(
                f"{what} claims {size} bytes where at most {limit} are allowed", hint=PULL_AGAIN
            )
        return self.take(size, what)

    def skip_strings(self, count: int, what: str) -> bytes:
        """Walk over `count` strings and return them as they stand in the file."""
        start = self.at
        for _ in range(count):
            self.need(8, what)
            size = struct.unpack_from("<Q", self._buffer, self.at)[0]
            self.need(8 + size, what)
            self.at += 8 + size
        return bytes(self._buffer[start : self.at])


def open_gguf(path: Path, *, is_part: bool = False) -> GgufFile:
    """`read_gguf` of the file at `path`.

    Raises:
        BadModel: The file is missing, cannot be read, or is not a sound GGUF file.
    """
    try:
        with path.open("rb") as file:
            return read_gguf(file, is_part=is_part)
    except OSError as error:
        raise BadModel(
            f"cannot read the model file {path}: {error.strerror or error}",
            hint="check the path and its permissions",
        ) from error


def read_gguf(file: BinaryIO, *, is_part: bool = False) -> GgufFile:
    """Read and check the head of a GGUF file; the data of its tensors is not read.

    Args:
        file: Seekable, at any position.
        is_part: It is a further part of a model in several files (`model.parts`),
            which need not name an architecture.

    Raises:
        BadModel: What is wrong with it, and what to do.
    """
    return read_head(FileSource(file), is_part=is_part)


def read_head(source: ByteSource, *, is_part: bool = False) -> GgufFile:
    """`read_gguf` of a file that may be elsewhere; only its head is asked for, in order.

    Raises:
        BadModel: What is wrong with it, and what to do.
    """
    cursor = _Cursor(source)
    version = _read_version(cursor)
    n_tensors = cursor.u64("the number of tensors")
    n_keys = cursor.u64("the number of metadata keys")
    if n_tensors > TENSORS_MAX:
        raise _bad(f"the model file claims {n_tensors} tensors; at most {TENSORS_MAX} are allowed")
    if n_keys > KEYS_MAX:
        raise _bad(f"the model file claims {n_keys} metadata keys; at most {KEYS_MAX} are allowed")
    metadata: dict[str, MetaValue] = {}
    for index in range(n_keys):
        key = _decode_name(cursor.string(KEY_BYTES_MAX, f"metadata key {index}"), "metadata key")
        if key in metadata:
            raise _bad(f"metadata key {key!r} appears twice")
        metadata[key] = _read_value(cursor, key)
    alignment = _alignment(metadata)
    records = _read_table(cursor, n_tensors)
    data_offset = _padded(cursor.at, alignment) if records else cursor.at
    found = GgufFile(
        version=version,
        metadata=MappingProxyType(metadata),
        tensors=_place(records, data_offset, alignment, cursor.file_bytes),
        alignment=alignment,
        data_offset=data_offset,
        file_bytes=cursor.file_bytes,
    )
    if not is_part:
        check_named(found)
    return found


def check_named(found: GgufFile) -> None:
    """Raise BadModel unless a file names its architecture."""
    if not found.architecture:
        raise _bad("the model file names no architecture")


def _bad(problem: str) -> BadModel:
    return BadModel(problem, hint=PULL_AGAIN)


def _padded(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment


def _decode_name(name: bytes, what: str) -> str:
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _bad(f"a {what} is not text") from error
    if not text or not text.isprintable():
        raise _bad(f"a {what} is empty or not printable")
    return text


def _read_version(cursor: _Cursor) -> int:
    magic = cursor.take(4, "its first bytes")
    if magic != MAGIC:
        raise BadModel(
            f"not a GGUF file: it starts with {magic!r}",
            hint="get the model as a .gguf file; other formats must be converted first",
        )
    version = cursor.u32("the version")
    if version in (2, 3):
        return version
    if version >= 1 << 16 and version & 0xFFFF == 0:
        raise BadModel(
            "the model file is big-endian", hint="get the little-endian file of the model"
        )
    raise BadModel(
        f"the model file has GGUF version {version}; this program reads 2 and 3",
        hint="get a newer file of the model",
    )


def _value_type(tag: int, key: str) -> ValueType:
    try:
        return ValueType(tag)
    except ValueError:
        raise _bad(f"metadata {key!r} has the unknown type {tag}") from None


def _read_value(cursor: _Cursor, key: str) -> MetaValue:
    what = f"metadata {key!r}"
    kind = _value_type(cursor.u32(what), key)
    if kind is ValueType.ARRAY:
        return _read_array(cursor, key, what)
    if kind is ValueType.STRING:
        text = cursor.string(HEADER_BYTES_MAX, what)
        return MetaValue(kind, struct.pack("<Q", len(text)) + text)
    raw = cursor.take(struct.calcsize(FORMAT_OF[kind]), what)
    if kind is ValueType.BOOL and raw[0] > 1:
        raise _bad(f"{what} is neither true nor false")
    return MetaValue(kind, raw)


def _read_array(cursor: _Cursor, key: str, what: str) -> MetaValue:
    element = _value_type(cursor.u32(what), key)
    if element is ValueType.ARRAY:
        raise _bad(f"{what} is an array of arrays, which no model uses")
    count = cursor.u64(what)
    head = struct.pack("<IQ", element, count)
    if element is ValueType.STRING:
        cursor.need(8 * count, what)
        return MetaValue(ValueType.ARRAY, head + cursor.skip_strings(count, what))
    raw = cursor.take(count * struct.calcsize(FORMAT_OF[element]), what)
    if element is ValueType.BOOL and raw.translate(None, b"\x00\x01"):
        raise _bad(f"{what} holds something that is neither true nor false")
    return MetaValue(ValueType.ARRAY, head + raw)


def _alignment(metadata: dict[str, MetaValue]) -> int:
    value = metadata.get("general.alignment")
    if value is None:
        return ALIGNMENT_DEFAULT
    if value.type is not ValueType.UINT32:
        raise _bad("general.alignment is not a 32-bit number")
    alignment = int(value.scalar())
    if alignment < 1 or alignment & (alignment - 1) or alignment > ALIGNMENT_MAX:
        raise _bad(
            f"general.alignment is {alignment}; it must be a power of two up to {ALIGNMENT_MAX}"
        )
    return alignment


def _read_table(cursor: _Cursor, n_tensors: int) -> list[TensorInfo]:
    """The tensor table with offsets still relative to the data's start."""
    records: list[TensorInfo] = []
    names: set[str] = set()
    for index in range(n_tensors):
        what = f"the record of tensor {index}"
        name = _decode_name(cursor.string(TENSOR_NAME_BYTES_MAX, what), "tensor name")
        if name in names:
            raise _bad(f"tensor {name!r} appears twice")
        names.add(name)
        n_dims = cursor.u32(what)
        if not 1 <= n_dims <= DIMS_MAX:
            raise _bad(f"tensor {name!r} claims {n_dims} dimensions; 1 to {DIMS_MAX} are allowed")
        dims = struct.unpack(f"<{n_dims}Q", cursor.take(8 * n_dims, what))
        tag = cursor.u32(what)
        offset = cursor.u64(what)
        try:
            kind = TensorType(tag)
        except ValueError:
            raise _bad(f"tensor {name!r} has the unknown type {tag}") from None
        records.append(TensorInfo(name, dims, kind, offset, _checked_bytes(name, dims, kind)))
    return records


def _checked_bytes(name: str, dims: tuple[int, ...], kind: TensorType) -> int:
    elements = 1
    for dim in dims:
        if dim < 1:
            raise _bad(f"tensor {name!r} has a dimension of 0")
        elements *= dim
        if elements > ELEMENTS_MAX:
            raise _bad(f"tensor {name!r} claims more elements than any machine could hold")
    if dims[0] % BLOCK_OF[kind][0]:
        raise _bad(
            f"rows of tensor {name!r} hold {dims[0]} elements, which are not whole "
            f"{kind.name} blocks of {BLOCK_OF[kind][0]}"
        )
    return tensor_bytes(dims, kind)


def _place(
    records: list[TensorInfo], data_offset: int, alignment: int, file_bytes: int
) -> tuple[TensorInfo, ...]:
    """Check that tensors follow each other without gap or overlap, inside the file.

    The engine's loader demands the same (gguf.cpp, gguf_init_from_reader).
    """
    placed: list[TensorInfo] = []
    expected = 0
    for record in records:
        if record.offset % alignment:
            raise _bad(f"tensor {record.name!r} starts at an offset not aligned to {alignment}")
        if record.offset != expected:
            wrong = "overlaps the one before it" if record.offset < expected else "leaves a gap"
            raise _bad(
                f"tensor {record.name!r} {wrong}: offset {record.offset} instead of {expected}"
            )
        start = data_offset + record.offset
        if start + record.size_bytes > file_bytes:
            raise _bad(
                f"the model file ends at byte {file_bytes}, but tensor {record.name!r} "
                f"needs {start + record.size_bytes}"
            )
        placed.append(TensorInfo(record.name, record.dims, record.type, start, record.size_bytes))
        expected += _padded(record.size_bytes, alignment)
    return tuple(placed)
