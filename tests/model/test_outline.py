"""Heads read around their vocabulary."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest

from atoll.domain.errors import BadModel
from atoll.model import gguf_writer
from atoll.model.gguf import open_gguf, read_gguf
from atoll.model.gguf_types import MetaValue, TensorType, ValueType
from atoll.model.gguf_writer import TensorSpec
from atoll.model.outline import FRONT_BYTES, TAIL_BYTES, read_outline
from atoll.model.shard import plan_shard
from atoll.model.source import FileSource

TOKENS = [f"token{i}" for i in range(40_000)]
TENSORS = [TensorSpec(f"blk.{i}.w", (32, 3), TensorType.F32) for i in range(9)]


class Counting(FileSource):
    """Counts what is read."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.read_bytes = 0

    def read(self, offset: int, size: int) -> bytes:
        found = super().read(offset, size)
        self.read_bytes += len(found)
        return found


def u32(value: int) -> MetaValue:
    return MetaValue.of(ValueType.UINT32, value)


def model(**changes: MetaValue) -> dict[str, MetaValue]:
    """A head with a large vocabulary and keys behind it."""
    return {
        "general.architecture": MetaValue.of(ValueType.STRING, "llama"),
        "llama.block_count": u32(9),
        "tokenizer.ggml.model": MetaValue.of(ValueType.STRING, "gpt2"),
        "tokenizer.ggml.tokens": MetaValue.array(ValueType.STRING, TOKENS),
        "tokenizer.ggml.scores": MetaValue.array(ValueType.FLOAT32, [0.0] * len(TOKENS)),
        "tokenizer.ggml.merges": MetaValue.array(ValueType.STRING, TOKENS),
        "tokenizer.ggml.bos_token_id": u32(1),
        "tokenizer.chat_template": MetaValue.of(ValueType.STRING, "{{ text }}" * 100),
        "general.tags": MetaValue.array(ValueType.STRING, ["a", "b"]),
        "general.quantization_version": u32(2),
        **changes,
    }


def file_of(metadata: dict[str, MetaValue], tensors: list[TensorSpec] = TENSORS) -> bytes:
    data = ([bytes(t.size_bytes)] for t in tensors)
    return b"".join(gguf_writer.stream(metadata, tensors, data))


def test_all_but_the_vocabulary_is_found() -> None:
    data = file_of(model())
    whole, source = read_gguf(io.BytesIO(data)), Counting(data)
    found = read_outline(source, whole.data_offset)
    assert source.read_bytes == FRONT_BYTES + TAIL_BYTES[0] < len(data) / 5
    assert found.tensors == whole.tensors
    assert (found.data_offset, found.file_bytes) == (whole.data_offset, whole.file_bytes)
    skipped = [key for key in whole.metadata if key not in found.metadata]
    assert skipped == [f"tokenizer.ggml.{name}" for name in ("tokens", "scores", "merges")]
    assert list(found.metadata) == [key for key in whole.metadata if key not in skipped]
    assert all(whole.metadata[key] == value for key, value in found.metadata.items())


@pytest.mark.parametrize("alignment", [8, 64])
def test_another_alignment(alignment: int) -> None:
    data = file_of({"general.alignment": u32(alignment), **model()})
    whole = read_gguf(io.BytesIO(data))
    assert read_outline(Counting(data), whole.data_offset).tensors == whole.tensors


def test_a_large_table_is_read_in_a_second_attempt() -> None:
    tensors = [TensorSpec(f"blk.{i}.{'w' * 50}", (1,), TensorType.F32) for i in range(1500)]
    data = file_of(model(), tensors)
    whole = read_gguf(io.BytesIO(data))
    assert read_outline(Counting(data), whole.data_offset).tensors == whole.tensors


@pytest.mark.parametrize("off_by", [-70_000, -64, -32, -1, 1, 32, 1000, 10**9])
def test_a_wrong_place_is_noticed(off_by: int) -> None:
    data = file_of(model())
    offset = read_gguf(io.BytesIO(data)).data_offset + off_by
    try:
        found = read_outline(Counting(data), offset)
    except BadModel:
        return
    # Within the padding the table is found all the same; the weights are then misplaced, which
    # the hash of what is made from them shows.
    assert abs(off_by) <= 64
    assert found.data_offset == offset


def test_a_small_head_is_not_for_this() -> None:
    data = file_of({"general.architecture": MetaValue.of(ValueType.STRING, "llama")})
    with pytest.raises(BadModel, match="usual size"):
        read_outline(Counting(data), read_gguf(io.BytesIO(data)).data_offset)


def test_something_else_large_is_not_skipped() -> None:
    large = MetaValue.array(ValueType.STRING, TOKENS)
    first = {"general.architecture": MetaValue.of(ValueType.STRING, "llama"), "llama.x": large}
    data = file_of({**first, **model()})
    with pytest.raises(BadModel, match="in front of its vocabulary"):
        read_outline(Counting(data), read_gguf(io.BytesIO(data)).data_offset)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data, _at: b"GGML" + data[4:],
        lambda data, _at: data[:8] + (8).to_bytes(8, "little") + data[16:],
        lambda data, _at: data[:8] + bytes(8) + data[16:],
        lambda data, _at: data[:16] + (7).to_bytes(8, "little") + data[24:],
        lambda data, at: data[: at + 10],
        lambda data, at: data[: at - 10],
        lambda data, _at: data[:100],
        lambda data, at: data[: at - 200] + bytes(200) + data[at:],
    ],
)
def test_damage_is_noticed(damage: object) -> None:
    data = file_of(model())
    offset = read_gguf(io.BytesIO(data)).data_offset
    assert callable(damage)
    with pytest.raises(BadModel):
        read_outline(Counting(damage(data, offset)), offset)


@pytest.mark.parametrize("first", [0, 1, 14, 28])
def test_shards_of_the_demo_model_are_planned_alike(demo_model: Path, first: int) -> None:
    whole = open_gguf(demo_model)
    with demo_model.open("rb") as file:
        outline = read_outline(FileSource(file), whole.data_offset)
    mine, theirs = (plan_shard(head, first, first + 1) for head in (outline, whole))
    assert list(mine.metadata.items()) == list(theirs.metadata.items())
    assert mine.tensors == theirs.tensors
    assert mine.size_bytes == theirs.size_bytes


def test_strings_that_seem_to_begin_in_thousands_of_places_are_walked_once() -> None:
    """Else half a megabyte of them would take a minute."""
    keys, strings = 900, 3_000
    fake = struct.pack("<Qs2IQ", 1, b"a", ValueType.ARRAY, ValueType.STRING, strings)
    ahead = range((keys - 1) * 33, -1, -33)
    trap = b"".join(fake + struct.pack("<Q", size) for size in ahead) + bytes(8 * strings)
    value = MetaValue(ValueType.STRING, struct.pack("<Q", len(trap)) + trap)
    file = file_of(model(**{"tokenizer.trap": value}))
    whole = read_gguf(io.BytesIO(file))
    with pytest.raises(BadModel, match="the same strings in many places"):
        read_outline(Counting(file), whole.data_offset)
