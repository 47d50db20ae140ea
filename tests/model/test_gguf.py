from __future__ import annotations

import contextlib
import io
import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atoll.domain.errors import BadModel
from atoll.model import gguf_writer
from atoll.model.gguf import HEADER_BYTES_MAX, open_gguf, read_gguf
from atoll.model.gguf_types import MetaValue, TensorType, ValueType
from atoll.model.gguf_writer import TensorSpec

ARCHITECTURE = {"general.architecture": MetaValue.of(ValueType.STRING, "llama")}
RICH = ARCHITECTURE | {
    "a.bool": MetaValue.of(ValueType.BOOL, True),
    "a.text": MetaValue.of(ValueType.STRING, "text"),
    "a.texts": MetaValue.array(ValueType.STRING, ["one", "two", "three"]),
    "a.flags": MetaValue.array(ValueType.BOOL, [True, False, True]),
    "a.numbers": MetaValue.array(ValueType.INT64, [1, -2, 3]),
    "a.float": MetaValue.of(ValueType.FLOAT64, 0.25),
}
TENSORS = [
    TensorSpec("blk.0.attn_q.weight", (32, 4), TensorType.Q4_0),
    TensorSpec("output_norm.weight", (8,), TensorType.F32),
]


def model_bytes(
    metadata: dict[str, MetaValue] = RICH, tensors: list[TensorSpec] = TENSORS
) -> bytes:
    return b"".join(gguf_writer.stream(metadata, tensors, ([bytes(t.size_bytes)] for t in tensors)))


def read(data: bytes) -> None:
    read_gguf(io.BytesIO(data))


def string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def head(n_tensors: int, n_keys: int, body: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_keys) + body


ARCH_KEY = string(b"general.architecture") + struct.pack("<I", 8) + string(b"llama")


def tensor(
    name: bytes = b"t", dims: tuple[int, ...] = (8,), kind: int = 0, offset: int = 0
) -> bytes:
    body = struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)
    return string(name) + body


def with_tensors(*records: bytes, data: int = 4096) -> bytes:
    body = head(len(records), 1, ARCH_KEY + b"".join(records))
    return body + bytes(-len(body) % 32 + data)


def with_value(value: bytes) -> bytes:
    return head(0, 2, ARCH_KEY + string(b"k") + value)


@pytest.mark.parametrize("version", [2, 3])
def test_versions_2_and_3_are_read(version: int) -> None:
    data = bytearray(model_bytes())
    data[4] = version
    found = read_gguf(io.BytesIO(bytes(data)))
    assert found.version == version
    assert dict(found.metadata) == RICH


BAD = {
    "empty": (b"", "ends at byte 0"),
    "not a model": (b"PK\x03\x04" + bytes(64), "not a GGUF file"),
    "version 1": (head(0, 0, version=1), "version 1"),
    "version 9": (head(0, 0, version=9), "version 9"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "no architecture": (head(0, 0), "general.architecture"),
    "empty architecture": (
        head(0, 1, string(b"general.architecture") + struct.pack("<I", 8) + string(b"")),
        "names no architecture",
    ),
    "countless tensors": (head(2**63, 0), "claims 9223372036854775808 tensors"),
    "countless keys": (head(0, 2**64 - 1), "metadata keys"),
    "endless key": (head(0, 1, struct.pack("<Q", 2**62)), "claims 4611686018427387904 bytes"),
    "key beyond the file": (head(0, 1, struct.pack("<Q", 60_000)), "ends at byte"),
    "key not text": (head(0, 1, string(b"\xff\xfe")), "is not text"),
    "key with control characters": (head(0, 1, string(b"a\x1b[2J")), "not printable"),
    "empty key": (head(0, 1, string(b"")), "empty"),
    "key twice": (head(0, 2, ARCH_KEY + ARCH_KEY), "appears twice"),
    "unknown value type": (with_value(struct.pack("<I", 99)), "unknown type 99"),
    "unknown element type": (with_value(struct.pack("<IIQ", 9, 77, 1)), "unknown type 77"),
    "nested array": (with_value(struct.pack("<IIQ", 9, 9, 1)), "array of arrays"),
    "endless string": (with_value(struct.pack("<IQ", 8, 2**60)), "at most"),
    "endless numbers": (with_value(struct.pack("<IIQ", 9, 10, 2**61)), "ends at byte"),
    "endless strings": (with_value(struct.pack("<IIQ", 9, 8, 2**61)), "ends at byte"),
    "overflowing array": (with_value(struct.pack("<IIQ", 9, 10, 2**64 - 1)), "ends at byte"),
    "string in array too long": (
        with_value(struct.pack("<IIQQ", 9, 8, 1, 2**64 - 1)),
        "ends at byte",
    ),
    "odd bool": (with_value(struct.pack("<IB", 7, 2)), "neither true nor false"),
    "odd bool in array": (with_value(struct.pack("<IIQBB", 9, 7, 2, 1, 3)), "neither true"),
    "long tensor name": (with_tensors(tensor(b"n" * 64)), "64 bytes where at most 63"),
    "tensor twice": (with_tensors(tensor(), tensor(offset=32)), "'t' appears twice"),
    "no dimensions": (with_tensors(tensor(dims=())), "0 dimensions"),
    "five dimensions": (with_tensors(tensor(dims=(1,) * 5)), "5 dimensions"),
    "endless dimensions": (
        with_tensors(string(b"t") + struct.pack("<I", 2**32 - 1)),
        "4294967295 dimensions",
    ),
    "dimension 0": (with_tensors(tensor(dims=(8, 0))), "dimension of 0"),
    "too many elements": (with_tensors(tensor(dims=(2**40, 2**40))), "more elements"),
    "negative dimension": (with_tensors(tensor(dims=(2**64 - 1,))), "more elements"),
    "removed type": (with_tensors(tensor(kind=4)), "unknown type 4"),
    "unknown type": (with_tensors(tensor(kind=43)), "unknown type 43"),
    "broken block": (with_tensors(tensor(dims=(31,), kind=2)), "not whole Q4_0 blocks of 32"),
    "not aligned": (with_tensors(tensor(offset=4)), "not aligned to 32"),
    "gap": (with_tensors(tensor(offset=32)), "leaves a gap"),
    "overlap": (with_tensors(tensor(), tensor(b"u")), "overlaps"),
    "outside the file": (with_tensors(tensor(dims=(2048,))), "needs"),
    "offset overflow": (with_tensors(tensor(offset=2**64 - 32)), "leaves a gap"),
}


@pytest.mark.parametrize("name", BAD)
def test_each_lie_is_told_apart(name: str) -> None:
    data, message = BAD[name]
    if name == "outside the file":
        data = data[:-1]
    with pytest.raises(BadModel, match=message) as caught:
        read(data)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (MetaValue.of(ValueType.UINT32, 0), "is 0"),
        (MetaValue.of(ValueType.UINT32, 48), "is 48"),
        (MetaValue.of(ValueType.UINT32, 2**31), "power of two"),
        (MetaValue.of(ValueType.UINT64, 32), "32-bit"),
    ],
)
def test_alignment_is_bounded(value: MetaValue, message: str) -> None:
    body = b"".join(
        string(key.encode()) + struct.pack("<I", v.type) + v.raw
        for key, v in (ARCHITECTURE | {"general.alignment": value}).items()
    )
    with pytest.raises(BadModel, match=message):
        read(head(0, 2, body))


def test_every_truncation_is_found() -> None:
    data = model_bytes()
    last = read_gguf(io.BytesIO(data)).tensors[-1]
    for size in range(last.offset + last.size_bytes):
        with pytest.raises(BadModel):
            read(data[:size])


def test_a_truncated_file_on_disk_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(model_bytes()[:-40])
    with pytest.raises(BadModel, match=r"output_norm\.weight"):
        open_gguf(path)
    with pytest.raises(BadModel, match="cannot read"):
        open_gguf(tmp_path / "missing.gguf")
    with pytest.raises(BadModel, match="cannot read"):
        open_gguf(tmp_path)


def test_every_flipped_bit_is_taken_or_refused_cleanly() -> None:
    data = bytearray(model_bytes())
    for at in range(read_gguf(io.BytesIO(bytes(data))).data_offset):
        for bit in range(8):
            data[at] ^= 1 << bit
            with contextlib.suppress(BadModel):
                read(bytes(data))
            data[at] ^= 1 << bit


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_damage_never_raises_anything_else(source: st.DataObject) -> None:
    data = bytearray(model_bytes())
    for _ in range(source.draw(st.integers(1, 4))):
        at = source.draw(st.integers(0, len(data) - 1))
        data[at : at + 8] = source.draw(
            st.one_of(st.binary(min_size=1, max_size=12), st.just(b"\xff" * 8))
        )
    try:
        read(bytes(data))
    except BadModel:
        return


def test_claims_are_not_believed_with_memory() -> None:
    claims = [
        head(65_536, 65_536),
        with_value(struct.pack("<IIQ", 9, 8, 8_000_000)),
        with_value(struct.pack("<IIQ", 9, 0, 60_000_000)),
        with_value(struct.pack("<IQ", 8, 60_000_000)),
    ]
    tracemalloc.start()
    try:
        for claim in claims:
            with pytest.raises(BadModel):
                read(claim)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_the_head_is_bounded_even_in_a_large_file(tmp_path: Path) -> None:
    path = tmp_path / "large.gguf"
    with path.open("wb") as file:
        file.write(with_value(struct.pack("<IIQ", 9, 0, HEADER_BYTES_MAX)))
        file.truncate(HEADER_BYTES_MAX * 2)
    with pytest.raises(BadModel, match="larger than 64 MiB"):
        open_gguf(path)


def test_the_demo_model_is_read_and_written_bit_for_bit(demo_model: Path) -> None:
    found = open_gguf(demo_model)
    assert found.architecture == "llama"
    assert found.integer("llama.block_count") == 30
    specs = [TensorSpec(t.name, t.dims, t.type) for t in found.tensors]
    again = gguf_writer.header(found.metadata, specs)
    assert len(again) == found.data_offset
    with demo_model.open("rb") as file:
        assert file.read(found.data_offset) == again
