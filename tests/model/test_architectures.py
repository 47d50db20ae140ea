from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from atoll.domain.errors import BadModel, CannotCut
from atoll.model.architectures import (
    TABLE,
    architecture_of,
    boundaries,
    embedding_scale,
    layer_count,
    layer_of,
    window_size,
    windowed_layers,
)
from atoll.model.gguf import open_gguf
from atoll.model.gguf_types import GgufFile, MetaValue, TensorInfo, TensorType, ValueType


def u32(value: int) -> MetaValue:
    return MetaValue.of(ValueType.UINT32, value)


def model(
    arch: str = "llama", n_layers: int = 4, tensors: tuple[str, ...] = (), **keys: MetaValue
) -> GgufFile:
    metadata = {
        "general.architecture": MetaValue.of(ValueType.STRING, arch),
        f"{arch}.block_count": u32(n_layers),
        **{f"{arch}.{key.replace('__', '.')}": value for key, value in keys.items()},
    }
    names = ("token_embd.weight", "output_norm.weight", *tensors)
    infos = tuple(TensorInfo(name, (4,), TensorType.F32, 0, 16) for name in names)
    return GgufFile(3, metadata, infos, 32, 0, 0)


def test_an_unknown_architecture_is_served_whole() -> None:
    with pytest.raises(CannotCut, match="'mamba' cannot be cut") as caught:
        architecture_of(model("mamba"))
    assert "whole" in caught.value.hint


@pytest.mark.parametrize("count", [0, 513, 2**32 - 1])
def test_layer_counts_that_would_abort_the_engine_are_refused(count: int) -> None:
    with pytest.raises(BadModel, match=f"claims {count} layers"):
        layer_count(model(n_layers=count))


def test_every_layer_is_a_boundary() -> None:
    for arch in TABLE:
        assert boundaries(model(arch)) == (0, 1, 2, 3, 4)


@pytest.mark.parametrize(("arch", "count"), [("gemma3", 62), ("gemma2", 46)])
def test_the_27b_gemmas_cannot_be_cut(arch: str, count: int) -> None:
    with pytest.raises(CannotCut, match=f"how attention is scaled .* {count} layers") as caught:
        boundaries(model(arch, count))
    assert "served whole" in caught.value.hint
    assert boundaries(model("llama", count))[-1] == count


@pytest.mark.parametrize("count", [24, 28, 32, 36, 40, 48, 64, 80, 94])
def test_sizes_of_the_qwens_are_labels_only(count: int) -> None:
    for arch in ("qwen2", "qwen3", "qwen3moe"):
        assert boundaries(model(arch, count))[-1] == count


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (model(nextn_predict_layers=u32(1)), "several tokens at once"),
        (model(tensors=("mm.projector.weight",)), "mm.projector.weight"),
        (model(tensors=("blk.4.attn_q.weight",)), r"blk\.4\.attn_q"),
        (model("gemma2", rope__freq_base_swa=MetaValue.of(ValueType.FLOAT32, 1e4)), "own"),
        (model("gemma2", attention__sliding_window=u32(0)), "hides everything"),
        (model("gemma2", tensors=("output.weight",)), "output.weight"),
        (model("qwen3", tensors=("cls.output.weight",)), "cls.output.weight"),
        (model("qwen2", tensors=("rope_freqs.weight",)), "rope_freqs.weight"),
        (
            model("qwen3moe", expert_used_count=MetaValue.array(ValueType.UINT32, [2, 2, 3, 2])),
            "differs from layer to layer",
        ),
        (
            model("llama", expert_used_count=MetaValue.array(ValueType.UINT32, [2, 2, 3, 2])),
            "differs from layer to layer",
        ),
        (model(some__array=MetaValue.array(ValueType.UINT32, [1] * 4)), "llama.some.array"),
    ],
)
def test_what_the_row_does_not_know_cannot_be_cut(odd: GgufFile, message: str) -> None:
    with pytest.raises(CannotCut, match=message):
        architecture_of(odd)


def test_arrays_of_another_length_are_no_layer_arrays() -> None:
    architecture_of(model(some__array=MetaValue.array(ValueType.UINT32, [1] * 3)))
    architecture_of(model(rope__dimension_sections=MetaValue.array(ValueType.INT32, [1] * 4)))


def test_parts_and_shards_are_not_cut_again() -> None:
    part, shard = model(), model()
    split = GgufFile(3, {**part.metadata, "split.count": u32(3)}, part.tensors, 32, 0, 0)
    again = GgufFile(3, {**shard.metadata, "atoll.first_layer": u32(0)}, shard.tensors, 32, 0, 0)
    with pytest.raises(CannotCut, match="one part"):
        architecture_of(split)
    with pytest.raises(CannotCut, match="shard already"):
        architecture_of(again)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("blk.0.attn_q.weight", (0, "attn_q.weight")),
        ("blk.12.ffn_down.bias", (12, "ffn_down.bias")),
        ("blk.01.attn_q.weight", None),
        ("blk.-1.attn_q.weight", None),
        ("blk.x.attn_q.weight", None),
        ("output.weight", None),
    ],
)
def test_layer_of_a_tensor_name(name: str, place: tuple[int, str] | None) -> None:
    assert layer_of(name) == place


def test_windows_follow_the_default_a_period_or_an_array() -> None:
    size = u32(512)
    row = TABLE["gemma3"]

    def windows(n_layers: int = 8, **keys: MetaValue) -> list[bool] | None:
        return windowed_layers(model("gemma3", n_layers, (), **keys), row)

    assert windows() is None
    assert windows(attention__sliding_window=u32(0)) is None
    assert windows(attention__sliding_window=size) == [True] * 5 + [False] + [True] * 2
    assert windows(4, attention__sliding_window=size, attention__sliding_window_pattern=u32(2)) == [
        True,
        False,
        True,
        False,
    ]
    assert windows(2, attention__sliding_window=size, attention__sliding_window_pattern=u32(0)) == [
        True,
        True,
    ]
    own = MetaValue.array(ValueType.BOOL, [False, True, True])
    assert windows(3, attention__sliding_window=size, attention__sliding_window_pattern=own) == [
        False,
        True,
        True,
    ]
    with pytest.raises(BadModel, match="array of 4"):
        windows(4, attention__sliding_window=size, attention__sliding_window_pattern=own)
    assert windowed_layers(model("llama"), TABLE["llama"]) is None


def test_gemma2_has_windows_though_its_file_says_nothing_of_them() -> None:
    row = TABLE["gemma2"]
    assert row.window is not None
    assert window_size(model("gemma2"), row.window) == 4096
    assert windowed_layers(model("gemma2"), row) == [True, False, True, False]
    period = model("gemma2", 4, (), attention__sliding_window_pattern=u32(4))
    assert windowed_layers(period, row) == [True, True, True, False]


@pytest.mark.parametrize("arch", TABLE)
def test_only_gemmas_scale_their_embedding(random_model: Callable[..., Path], arch: str) -> None:
    widths = {"gemma2": 96, "gemma3": 64}
    expected = math.sqrt(widths[arch]) if arch in widths else 1.0
    assert embedding_scale(open_gguf(random_model(arch))) == expected


def test_only_gemma2_scales_hidden_states_too() -> None:
    assert [row.name for row in TABLE.values() if row.scaled_input] == ["gemma2"]
    assert all(row.scaled_embedding for row in TABLE.values() if row.scaled_input)
