from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from atoll.domain.errors import BadModel, CannotCut
from atoll.domain.ids import ModelId
from atoll.model.gguf import open_gguf
from atoll.model.gguf_types import GgufFile, MetaValue, ValueType
from atoll.model.manifest import Manifest, describe, kv_bytes, make_manifest, weight_bytes
from atoll.model.shard import write_shard

MODEL = ModelId("0" * 64)


def test_the_demo_model_in_numbers(demo_model: Path) -> None:
    found = describe(open_gguf(demo_model), MODEL)
    assert (found.architecture, found.quantisation) == ("llama", "Q4_1")
    assert (found.n_layers, found.n_embd, found.n_vocab) == (30, 576, 49152)
    assert found.context_train == 8192
    # 3 KV heads of 64 values, keys and values, two bytes each.
    assert set(found.layer_kv_bytes) == {3 * 64 * 2 * 2}
    assert kv_bytes(found, 10, 20, 4096) == 10 * 768 * 4096
    assert weight_bytes(found, 0, 30) + found.other_bytes < found.size_bytes
    assert weight_bytes(found, 10, 20) == 10 * found.layer_bytes[0]


def test_shards_are_named_by_what_cutting_gives(
    random_model: Callable[..., Path], tmp_path: Path
) -> None:
    path = random_model("gemma3")
    model = ModelId(hashlib.sha256(path.read_bytes()).hexdigest())
    found = make_manifest(path, model, [(4, 8), (0, 4), (0, 4), (0, 8)])
    assert [(s.first, s.last) for s in found.shards] == [(0, 4), (0, 8), (4, 8)]
    digest = write_shard(path, 4, 8, tmp_path / "s.gguf")
    assert (found.shards[2].shard, found.shards[2].size_bytes) == (digest.shard, digest.size_bytes)
    assert str(found.shards[1].shard) == str(model)
    assert make_manifest(path, model, [(0, 4), (4, 8), (0, 8)]) == found
    assert msgspec.json.decode(msgspec.json.encode(found), type=Manifest) == found


def test_kv_bytes_follow_the_heads_of_each_layer(random_model: Callable[..., Path]) -> None:
    found = describe(open_gguf(random_model(n_head_kv=(1, 2, 3, 4, 5, 6))), MODEL)
    assert found.layer_kv_bytes == tuple(n * 16 * 2 * 2 for n in range(1, 7))
    assert kv_bytes(found, 1, 3, 10) == (2 + 3) * 64 * 10


def test_an_odd_file_type_is_named_by_most_bytes(random_model: Callable[..., Path]) -> None:
    model = open_gguf(random_model())
    odd = {**model.metadata, "general.file_type": MetaValue.of(ValueType.UINT32, 999)}
    assert describe(GgufFile(3, odd, model.tensors, 32, 0, 0), MODEL).quantisation == "F32"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("attention.head_count", 0, "number of heads"),
        ("attention.head_count_kv", -1, "number of heads"),
        ("attention.key_length", 0, "heads of an impossible width"),
        ("attention.value_length", -64, "heads of an impossible width"),
        ("embedding_length", 0, "width or context"),
        ("context_length", -1, "width or context"),
    ],
)
def test_impossible_numbers_are_bad(
    random_model: Callable[..., Path], key: str, value: int, message: str
) -> None:
    model = open_gguf(random_model())
    odd = {**model.metadata, f"llama.{key}": MetaValue.of(ValueType.INT32, value)}
    with pytest.raises(BadModel, match=message):
        describe(GgufFile(3, odd, model.tensors, 32, 0, 0), MODEL)


def test_impossible_ranges_have_no_manifest(random_model: Callable[..., Path]) -> None:
    with pytest.raises(CannotCut):
        make_manifest(random_model(), MODEL, [(0, 99)])
