from __future__ import annotations

import gguf
import pytest

from atoll.domain.errors import BadModel
from atoll.model.gguf_types import (
    BLOCK_OF,
    GgufFile,
    MetaValue,
    TensorType,
    ValueType,
    tensor_bytes,
)


def file_with(**metadata: MetaValue) -> GgufFile:
    return GgufFile(3, metadata, (), 32, 0, 0)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (ValueType.UINT8, 255),
        (ValueType.INT8, -128),
        (ValueType.UINT16, 65535),
        (ValueType.INT16, -1),
        (ValueType.UINT32, 2**32 - 1),
        (ValueType.INT32, -5),
        (ValueType.FLOAT32, 0.5),
        (ValueType.BOOL, True),
        (ValueType.STRING, "größe"),
        (ValueType.UINT64, 2**64 - 1),
        (ValueType.INT64, -(2**63)),
        (ValueType.FLOAT64, 0.1),
    ],
)
def test_scalars_and_arrays_decode_to_what_was_encoded(
    kind: ValueType, value: int | float | bool | str
) -> None:
    assert MetaValue.of(kind, value).scalar() == value
    array = MetaValue.array(kind, [value, value])
    assert array.items() == [value, value]
    assert (array.element_type, array.count) == (kind, 2)


def test_block_sizes_agree_with_the_reference_package() -> None:
    shared = {int(kind): sizes for kind, sizes in gguf.GGML_QUANT_SIZES.items()}
    for kind, sizes in BLOCK_OF.items():
        # Q8_1 is an intermediate format whose two scales became half-precision.
        if kind in shared and kind is not TensorType.Q8_1:
            assert shared[kind] == sizes, kind


def test_tensor_bytes_counts_blocks() -> None:
    assert tensor_bytes((64, 3), TensorType.Q4_0) == 2 * 3 * 18
    with pytest.raises(ValueError, match="whole blocks"):
        tensor_bytes((33,), TensorType.Q4_0)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(BadModel, match=r"llama\.block_count"):
        file_with().integer("llama.block_count")
    with pytest.raises(BadModel, match=r"general\.architecture"):
        _ = file_with().architecture
    with pytest.raises(BadModel, match=r"output\.weight"):
        file_with().tensor("output.weight")


def test_a_default_stands_in_for_a_missing_key_only() -> None:
    text = MetaValue.of(ValueType.STRING, "x")
    assert file_with().integer("n", 7) == 7
    assert file_with().text("s", "y") == "y"
    with pytest.raises(BadModel, match="must be an integer"):
        file_with(n=text).integer("n", 7)
    with pytest.raises(BadModel, match="must be a text"):
        file_with(s=MetaValue.of(ValueType.UINT32, 1)).text("s", "y")


def test_per_layer_counts_are_one_for_all_or_one_for_each() -> None:
    one = MetaValue.of(ValueType.UINT32, 4)
    each = MetaValue.array(ValueType.INT32, [1, 2, 3])
    assert file_with(n=one).per_layer("n", 3) == [4, 4, 4]
    assert file_with(n=each).per_layer("n", 3) == [1, 2, 3]
    assert file_with().per_layer("n", 2, 9) == [9, 9]
    with pytest.raises(BadModel, match="array of 4 integers"):
        file_with(n=each).per_layer("n", 4)
    with pytest.raises(BadModel, match="integers"):
        file_with(n=MetaValue.array(ValueType.FLOAT32, [1.0])).per_layer("n", 1)
