from __future__ import annotations

import io

import gguf
import numpy as np
import pytest

from atoll.model import gguf_writer
from atoll.model.gguf import read_gguf
from atoll.model.gguf_types import MetaValue, TensorType, ValueType
from atoll.model.gguf_writer import TensorSpec

METADATA = {
    "general.architecture": MetaValue.of(ValueType.STRING, "llama"),
    "general.alignment": MetaValue.of(ValueType.UINT32, 64),
    "a.list": MetaValue.array(ValueType.STRING, ["x", "", "yy"]),
    "a.flags": MetaValue.array(ValueType.BOOL, [True, False]),
}
TENSORS = [
    TensorSpec("one", (3,), TensorType.F32),
    TensorSpec("two", (32, 2), TensorType.Q4_0),
]
DATA = [np.arange(3, dtype="<f4").tobytes(), bytes(range(36))]


def written() -> bytes:
    return b"".join(gguf_writer.stream(METADATA, TENSORS, [[d] for d in DATA]))


def test_what_is_written_reads_back_the_same() -> None:
    whole = written()
    file = io.BytesIO(whole)
    found = read_gguf(file)
    assert dict(found.metadata) == METADATA
    assert [(t.name, t.dims, t.type) for t in found.tensors] == [
        (t.name, t.dims, t.type) for t in TENSORS
    ]
    assert [whole[t.offset : t.offset + t.size_bytes] for t in found.tensors] == DATA
    assert all(t.offset % 64 == 0 for t in found.tensors)
    assert len(whole) == gguf_writer.file_bytes(METADATA, TENSORS)


def test_writing_twice_gives_the_same_bytes() -> None:
    assert written() == written()


def test_the_reference_reader_understands_it(tmp_path: object) -> None:
    from pathlib import Path

    path = Path(str(tmp_path)) / "m.gguf"
    path.write_bytes(written())
    reader = gguf.GGUFReader(path)
    assert reader.fields["a.list"].contents() == ["x", "", "yy"]
    assert [t.name for t in reader.tensors] == ["one", "two"]
    assert np.array_equal(reader.tensors[0].data, np.arange(3, dtype="<f4"))
    assert reader.tensors[1].data.tobytes() == DATA[1]


def test_data_of_the_wrong_length_is_our_bug() -> None:
    with pytest.raises(ValueError, match="one: 11 bytes instead of 12"):
        list(gguf_writer.stream(METADATA, TENSORS[:1], [[DATA[0][:-1]]]))
