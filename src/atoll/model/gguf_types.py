"""The parts a GGUF file is made of: typed metadata values and tensor records.

Pure data. `gguf` reads these from a file and checks every claim; `gguf_writer`
writes them back. Format: github.com/ggml-org/ggml, docs/gguf.md.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

from atoll.domain.errors import BadModel

MAGIC = b"GGUF"
ALIGNMENT_DEFAULT = 32
PULL_AGAIN = "pull the model again, or get another file"

Scalar = int | float | bool | str


class ValueType(IntEnum):
    """The type tag in front of a metadata value."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


FORMAT_OF = {
    ValueType.UINT8: "B",
    ValueType.INT8: "b",
    ValueType.UINT16: "H",
    ValueType.INT16: "h",
    ValueType.UINT32: "I",
    ValueType.INT32: "i",
    ValueType.FLOAT32: "f",
    ValueType.BOOL: "?",
    ValueType.UINT64: "Q",
    ValueType.INT64: "q",
    ValueType.FLOAT64: "d",
}
"""struct format of each type of fixed size; little-endian goes in front."""

INTEGERS = frozenset(
    {
        ValueType.UINT8,
        ValueType.INT8,
        ValueType.UINT16,
        ValueType.INT16,
        ValueType.UINT32,
        ValueType.INT32,
        ValueType.UINT64,
        ValueType.INT64,
    }
)


class TensorType(IntEnum):
    """How a tensor's numbers are stored. Numbers and sizes: ggml.h of the engine's build."""

    F32 = 0
    F16 = 1
    Q4_0 = 2
    Q4_1 = 3
    Q5_0 = 6
    Q5_1 = 7
    Q8_0 = 8
    Q8_1 = 9
    Q2_K = 10
    Q3_K = 11
    Q4_K = 12
    Q5_K = 13
    Q6_K = 14
    Q8_K = 15
    IQ2_XXS = 16
    IQ2_XS = 17
    IQ3_XXS = 18
    IQ1_S = 19
    IQ4_NL = 20
    IQ3_S = 21
    IQ2_S = 22
    IQ4_XS = 23
    I8 = 24
    I16 = 25
    I32 = 26
    I64 = 27
    F64 = 28
    IQ1_M = 29
    BF16 = 30
    TQ1_0 = 34
    TQ2_0 = 35
    MXFP4 = 39
    NVFP4 = 40
    Q1_0 = 41
    Q2_0 = 42


BLOCK_OF: Mapping[TensorType, tuple[int, int]] = MappingProxyType(
    {
        TensorType.F32: (1, 4),
        TensorType.F16: (1, 2),
        TensorType.Q4_0: (32, 18),
        TensorType.Q4_1: (32, 20),
        TensorType.Q5_0: (32, 22),
        TensorType.Q5_1: (32, 24),
        TensorType.Q8_0: (32, 34),
        TensorType.Q8_1: (32, 36),
        TensorType.Q2_K: (256, 84),
        TensorType.Q3_K: (256, 110),
        TensorType.Q4_K: (256, 144),
        TensorType.Q5_K: (256, 176),
        TensorType.Q6_K: (256, 210),
        TensorType.Q8_K: (256, 292),
        TensorType.IQ2_XXS: (256, 66),
        TensorType.IQ2_XS: (256, 74),
        TensorType.IQ3_XXS: (256, 98),
        TensorType.IQ1_S: (256, 50),
        TensorType.IQ4_NL: (32, 18),
        TensorType.IQ3_S: (256, 110),
        TensorType.IQ2_S: (256, 82),
        TensorType.IQ4_XS: (256, 136),
        TensorType.I8: (1, 1),
        TensorType.I16: (1, 2),
        TensorType.I32: (1, 4),
        TensorType.I64: (1, 8),
        TensorType.F64: (1, 8),
        TensorType.IQ1_M: (256, 56),
        TensorType.BF16: (1, 2),
        TensorType.TQ1_0: (256, 54),
        TensorType.TQ2_0: (256, 66),
        TensorType.MXFP4: (32, 17),
        TensorType.NVFP4: (64, 36),
        TensorType.Q1_0: (128, 18),
        TensorType.Q2_0: (64, 18),
    }
)
"""Per tensor type: elements in a block, bytes of a block."""


@dataclass(frozen=True, slots=True)
class MetaValue:
    """One metadata value, kept as the bytes it has in the file.

    `raw` is what follows the type tag, so that writing it again changes no
    bit; for an array that is element type, length and elements.
    """

    type: ValueType
    raw: bytes

    @classmethod
    def of(cls, kind: ValueType, value: Scalar) -> MetaValue:
        """A scalar or a string, encoded as `kind`."""
        return cls(kind, _encode(kind, value))

    @classmethod
    def array(cls, kind: ValueType, values: Sequence[Scalar]) -> MetaValue:
        """An array whose elements are encoded as `kind`."""
        head = struct.pack("<IQ", kind, len(values))
        if kind in FORMAT_OF:
            return cls(
                ValueType.ARRAY, head + struct.pack(f"<{len(values)}{FORMAT_OF[kind]}", *values)
            )
        return cls(ValueType.ARRAY, head + b"".join(_encode(kind, value) for value in values))

    @property
    def element_type(self) -> ValueType:
        """Type of the elements of an array."""
        assert self.type is ValueType.ARRAY
        return ValueType(struct.unpack_from("<I", self.raw)[0])

    @property
    def count(self) -> int:
        """Number of elements of an array."""
        assert self.type is ValueType.ARRAY
        return int(struct.unpack_from("<Q", self.raw, 4)[0])

    def scalar(self) -> Scalar:
        """The value, decoded; strings as UTF-8 with replacement of bad bytes."""
        assert self.type is not ValueType.ARRAY
        if self.type is ValueType.STRING:
            return self.raw[8:].decode("utf-8", "replace")
        value: Scalar = struct.unpack("<" + FORMAT_OF[self.type], self.raw)[0]
        return value

    def items(self) -> list[Scalar]:
        """The elements of an array, decoded."""
        kind, count = self.element_type, self.count
        if kind in FORMAT_OF:
            return list(struct.unpack_from(f"<{count}{FORMAT_OF[kind]}", self.raw, 12))
        found: list[Scalar] = []
        at = 12
        for _ in range(count):
            size = struct.unpack_from("<Q", self.raw, at)[0]
            found.append(self.raw[at + 8 : at + 8 + size].decode("utf-8", "replace"))
            at += 8 + size
        return found


def _encode(kind: ValueType, value: Scalar) -> bytes:
    if kind is ValueType.STRING:
        assert isinstance(value, str)
        text = value.encode()
        return struct.pack("<Q", len(text)) + text
    return struct.pack("<" + FORMAT_OF[kind], value)


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor of a file.

    `dims` are elements per dimension, fastest-varying first; `offset` counts
    bytes from the start of the file, `size_bytes` is the data without padding.
    """

    name: str
    dims: tuple[int, ...]
    type: TensorType
    offset: int
    size_bytes: int


def tensor_bytes(dims: Sequence[int], kind: TensorType) -> int:
    """Bytes of a tensor's data.

    Raises:
        ValueError: The rows are not whole blocks of the type.
    """
    block, size = BLOCK_OF[kind]
    if dims[0] % block:
        raise ValueError(f"rows of {dims[0]} elements are not whole blocks of {block}")
    n_blocks = dims[0] // block
    for dim in dims[1:]:
        n_blocks *= dim
    return n_blocks * size


@dataclass(frozen=True, slots=True)
class GgufFile:
    """What a GGUF file says of itself, checked; the tensors' data stays on disk.

    Of a model in several files, `part_bytes` are the files' sizes, and offsets
    count as if they were one after the other in one file (`model.parts`).
    """

    version: int
    metadata: Mapping[str, MetaValue]
    tensors: tuple[TensorInfo, ...]
    alignment: int
    data_offset: int
    file_bytes: int
    part_bytes: tuple[int, ...] = ()

    @property
    def architecture(self) -> str:
        """`general.architecture`, which every file must have."""
        return self.text("general.architecture")

    def tensor(self, name: str) -> TensorInfo:
        """The tensor of that name.

        Raises:
            BadModel: There is none.
        """
        for tensor in self.tensors:
            if tensor.name == name:
                return tensor
        raise BadModel(f"the model lacks the tensor {name!r}", hint=PULL_AGAIN)

    def integer(self, key: str, default: int | None = None) -> int:
        """An integer of the metadata.

        Raises:
            BadModel: It is missing and there is no default, or is no integer.
        """
        value = self.metadata.get(key)
        if value is None and default is not None:
            return default
        if value is None or value.type not in INTEGERS:
            raise _wrong(key, "an integer", value)
        return int(value.scalar())

    def text(self, key: str, default: str | None = None) -> str:
        """A string of the metadata.

        Raises:
            BadModel: It is missing and there is no default, or is no string.
        """
        value = self.metadata.get(key)
        if value is None and default is not None:
            return default
        if value is None or value.type is not ValueType.STRING:
            raise _wrong(key, "a text", value)
        return str(value.scalar())

    def per_layer(self, key: str, n_layers: int, default: int | None = None) -> list[int]:
        """A count that is one integer for all layers or an array with one for each.

        Raises:
            BadModel: Missing without default, or of another type or length.
        """
        value = self.metadata.get(key)
        if value is None or value.type is not ValueType.ARRAY:
            return [self.integer(key, default)] * n_layers
        if value.element_type not in INTEGERS | {ValueType.BOOL} or value.count != n_layers:
            raise _wrong(key, f"an array of {n_layers} integers", value)
        return [int(item) for item in value.items()]


def _wrong(key: str, wanted: str, value: MetaValue | None) -> BadModel:
    if value is None:
        return BadModel(f"the model does not say its {key}", hint=PULL_AGAIN)
    return BadModel(
        f"{key} of the model must be {wanted}, but is of type {value.type.name.lower()}",
        hint=PULL_AGAIN,
    )
