from __future__ import annotations

import hashlib
import io
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from atoll.domain.errors import BadModel, CannotCut
from atoll.model.architectures import BOUNDLESS_WINDOW
from atoll.model.gguf import open_gguf, read_gguf
from atoll.model.gguf_types import GgufFile, MetaValue, TensorType, ValueType
from atoll.model.shard import hash_shard, plan_shard, source_ranges, stream_shard, write_shard
from atoll.model.source import FileSource

RandomModels = Callable[..., Path]


def cut(path: Path, first: int, last: int) -> GgufFile:
    with path.open("rb") as file:
        data = b"".join(stream_shard(plan_shard(open_gguf(path), first, last), FileSource(file)))
    return read_gguf(io.BytesIO(data))


def contents(path: Path, found: GgufFile, data: bytes | None = None) -> dict[str, bytes]:
    whole = path.read_bytes() if data is None else data
    return {t.name: whole[t.offset : t.offset + t.size_bytes] for t in found.tensors}


def test_layers_are_renumbered_and_their_data_kept(
    random_model: RandomModels, tmp_path: Path
) -> None:
    path = random_model()
    shard = tmp_path / "s.gguf"
    write_shard(path, 2, 5, shard)
    found = open_gguf(shard)
    whole, mine = contents(path, open_gguf(path)), contents(shard, found)
    assert found.integer("llama.block_count") == 3
    blocks = {name for name in mine if name.startswith("blk.")}
    assert len(blocks) == 3 * 9
    for name in blocks:
        layer, rest = int(name.split(".")[1]), name.split(".", 2)[2]
        assert mine[name] == whole[f"blk.{layer + 2}.{rest}"]
    assert mine["output_norm.weight"] == whole["output_norm.weight"]


def test_a_middle_shard_has_no_vocabulary(random_model: RandomModels) -> None:
    path = random_model()
    found = cut(path, 2, 4)
    tokenizer = {key for key in found.metadata if key.startswith("tokenizer.")}
    assert tokenizer == {"tokenizer.ggml.model"}
    assert found.text("tokenizer.ggml.model") == "no_vocab"
    assert found.integer("llama.vocab_size") == 32
    embedding = found.tensor("token_embd.weight")
    assert (embedding.dims, embedding.type) == ((64, 32), TensorType.F32)
    assert [found.integer(f"atoll.{k}") for k in ("first_layer", "last_layer", "model_layers")] == [
        2,
        4,
        6,
    ]


def test_a_middle_shard_says_it_has_no_vocabulary_even_if_the_model_forgot_to(
    random_model: RandomModels,
) -> None:
    model = open_gguf(random_model())
    bare = {k: v for k, v in model.metadata.items() if not k.startswith("tokenizer.")}
    plan = plan_shard(
        GgufFile(3, bare, model.tensors, 32, model.data_offset, model.file_bytes), 1, 2
    )
    assert plan.metadata["tokenizer.ggml.model"].scalar() == "no_vocab"


@pytest.mark.parametrize("tied", [True, False])
def test_the_ends_carry_what_they_need(
    random_model: RandomModels, tmp_path: Path, tied: bool
) -> None:
    path = random_model(tied=tied, rope_freqs=True)
    model = open_gguf(path)
    whole = contents(path, model)
    first, last = tmp_path / "first.gguf", tmp_path / "last.gguf"
    write_shard(path, 0, 2, first)
    write_shard(path, 4, 6, last)
    head, tail = contents(first, open_gguf(first)), contents(last, open_gguf(last))
    assert "tokenizer.ggml.tokens" not in open_gguf(first).metadata
    for key in ("tokenizer.ggml.tokens", "tokenizer.chat_template"):
        assert open_gguf(last).metadata[key] == model.metadata[key]
    assert open_gguf(first).tensor("token_embd.weight").dims == (64, 32)
    assert not any(head["token_embd.weight"])
    assert "output.weight" not in head
    assert head["rope_freqs.weight"] == tail["rope_freqs.weight"] == whole["rope_freqs.weight"]
    if tied:
        assert tail["token_embd.weight"] == whole["token_embd.weight"]
    else:
        assert tail["output.weight"] == whole["output.weight"]
        assert not any(tail["token_embd.weight"])
        assert open_gguf(last).tensor("token_embd.weight").type is TensorType.Q4_0


def test_arrays_with_a_value_for_each_layer_are_sliced(random_model: RandomModels) -> None:
    path = random_model(n_head_kv=(1, 2, 3, 4, 5, 6), n_ff=96)
    found = cut(path, 2, 5)
    heads = found.metadata["llama.attention.head_count_kv"]
    assert heads == MetaValue.array(ValueType.UINT32, [3, 4, 5])
    assert found.integer("llama.feed_forward_length") == 96


def test_a_wrong_array_of_layers_is_refused(random_model: RandomModels) -> None:
    model = open_gguf(random_model())
    short = MetaValue.array(ValueType.UINT32, [2] * 5)
    odd = {**model.metadata, "llama.attention.head_count_kv": short}
    with pytest.raises(BadModel, match="array of 6"):
        plan_shard(GgufFile(3, odd, model.tensors, 32, model.data_offset, model.file_bytes), 1, 2)


@pytest.mark.parametrize("pattern", [None, 3, (True, False, True, True, False, True, True, True)])
def test_a_shard_carries_the_window_pattern_of_its_own_layers(
    random_model: RandomModels, pattern: int | tuple[bool, ...] | None
) -> None:
    if isinstance(pattern, tuple):
        whole = list(pattern)
    else:
        period = pattern or 6
        whole = [layer % period < period - 1 for layer in range(8)]
    found = cut(random_model("gemma3", window_pattern=pattern), 1, 7)
    value = found.metadata["gemma3.attention.sliding_window_pattern"]
    assert value == MetaValue.array(ValueType.BOOL, whole[1:7])
    assert found.integer("gemma3.attention.sliding_window") == 32


def test_a_shard_without_windowed_layers_has_no_window(random_model: RandomModels) -> None:
    found = cut(random_model("gemma3"), 2, 3)
    assert found.integer("gemma3.attention.sliding_window") == 0


def test_a_gemma2_shard_without_windowed_layers_has_a_boundless_one(
    random_model: RandomModels,
) -> None:
    """Its engine sets windows up whatever the size, and stops if no layer has one."""
    found = cut(random_model("gemma2"), 1, 2)
    assert found.integer("gemma2.attention.sliding_window") == BOUNDLESS_WINDOW
    key = "gemma2.attention.sliding_window_pattern"
    assert found.metadata[key] == MetaValue.array(ValueType.BOOL, [True])
    mixed = cut(random_model("gemma2"), 1, 3)
    assert mixed.integer("gemma2.attention.sliding_window") == 32
    assert mixed.metadata[key] == MetaValue.array(ValueType.BOOL, [False, True])


def test_only_the_last_shard_has_head_and_bias(random_model: RandomModels) -> None:
    path = random_model("qwen2", tied=False, output_bias=True)
    heads = {"output.weight", "output.bias"}
    assert heads <= {tensor.name for tensor in cut(path, 4, 6).tensors}
    assert not heads & {tensor.name for tensor in cut(path, 0, 4).tensors}


def test_experts_go_with_their_layer(random_model: RandomModels) -> None:
    found = cut(random_model("qwen3moe", n_ff=(96,) * 6), 2, 5)
    lengths = found.metadata["qwen3moe.expert_feed_forward_length"]
    assert lengths == MetaValue.array(ValueType.UINT32, [96] * 3)
    assert found.tensor("blk.2.ffn_down_exps.weight").dims == (96, 64, 8)


def test_cutting_twice_gives_the_same_bytes_and_hash(
    random_model: RandomModels, tmp_path: Path
) -> None:
    path = random_model("gemma3")
    one, two = tmp_path / "1.gguf", tmp_path / "2.gguf"
    digest = write_shard(path, 1, 4, one)
    assert write_shard(path, 1, 4, two) == digest == hash_shard(path, 1, 4)
    assert one.read_bytes() == two.read_bytes()
    assert hashlib.sha256(one.read_bytes()).hexdigest() == digest.shard
    assert one.stat().st_size == digest.size_bytes == plan_shard(open_gguf(path), 1, 4).size_bytes


def test_the_whole_range_is_the_model_itself(random_model: RandomModels, tmp_path: Path) -> None:
    path = random_model()
    out = tmp_path / "whole.gguf"
    digest = write_shard(path, 0, 6, out)
    assert out.read_bytes() == path.read_bytes()
    assert digest.shard == hashlib.sha256(path.read_bytes()).hexdigest()


def test_even_a_model_that_cannot_be_cut_has_its_whole_range(random_model: RandomModels) -> None:
    model = open_gguf(random_model())
    arch = {"general.architecture": MetaValue.of(ValueType.STRING, "other")}
    other = GgufFile(
        3,
        {**model.metadata, **arch, "other.block_count": MetaValue.of(ValueType.UINT32, 6)},
        model.tensors,
        32,
        model.data_offset,
        model.file_bytes,
    )
    assert plan_shard(other, 0, 6).whole
    with pytest.raises(CannotCut, match="'other'"):
        plan_shard(other, 0, 5)


@pytest.mark.parametrize(("first", "last"), [(-1, 2), (2, 2), (3, 2), (0, 7), (6, 7)])
def test_impossible_ranges_are_refused(random_model: RandomModels, first: int, last: int) -> None:
    with pytest.raises(CannotCut, match="6 layers"):
        plan_shard(open_gguf(random_model()), first, last)


def test_62_layers_of_gemma_are_no_shard(random_model: RandomModels) -> None:
    model = open_gguf(random_model("gemma3", n_layers=64, n_embd=32, n_ff=32))
    assert plan_shard(model, 0, 61).size_bytes > 0
    with pytest.raises(CannotCut, match="62 layers"):
        plan_shard(model, 1, 63)
    whole = open_gguf(random_model("gemma3", n_layers=62, n_embd=32, n_ff=32))
    assert plan_shard(whole, 0, 62).whole
    with pytest.raises(CannotCut, match="62 layers"):
        plan_shard(whole, 0, 31)


def test_46_layers_of_gemma2_are_no_shard(random_model: RandomModels) -> None:
    model = open_gguf(random_model("gemma2", n_layers=48, n_embd=32, n_ff=32))
    assert plan_shard(model, 0, 45).size_bytes > 0
    with pytest.raises(CannotCut, match="46 layers"):
        plan_shard(model, 1, 47)


def test_a_model_without_final_norm_is_bad(random_model: RandomModels) -> None:
    model = open_gguf(random_model())
    tensors = tuple(t for t in model.tensors if t.name != "output_norm.weight")
    bare = GgufFile(3, model.metadata, tensors, 32, model.data_offset, model.file_bytes)
    with pytest.raises(BadModel, match=r"output_norm\.weight"):
        plan_shard(bare, 0, 2)


def test_a_model_that_shrinks_while_it_is_cut_leaves_no_shard(
    random_model: RandomModels, tmp_path: Path
) -> None:
    data = random_model().read_bytes()
    plan = plan_shard(read_gguf(io.BytesIO(data)), 2, 4)
    with pytest.raises(BadModel, match="shrank"):
        list(stream_shard(plan, FileSource(io.BytesIO(data[: len(data) // 2]))))


@pytest.mark.parametrize(("first", "last"), [(0, 2), (1, 4), (3, 6), (0, 6)])
def test_a_cut_can_begin_at_every_byte(random_model: RandomModels, first: int, last: int) -> None:
    data = random_model().read_bytes()
    plan = plan_shard(read_gguf(io.BytesIO(data)), first, last)
    source = FileSource(io.BytesIO(data))
    whole = b"".join(stream_shard(plan, source))
    assert len(whole) == plan.size_bytes
    for start in (*range(0, len(whole), 997), len(whole) - 1, len(whole)):
        assert b"".join(stream_shard(plan, source, start)) == whole[start:]


def test_a_shard_needs_few_ranges_of_the_model(random_model: RandomModels) -> None:
    model = open_gguf(random_model())
    plan = plan_shard(model, 1, 4)
    wanted = sum(t.source.size_bytes for t in plan.tensors if t.source)
    exact = source_ranges(plan, 0)
    assert sum(stop - start for start, stop in exact) == wanted
    assert exact == sorted(exact)
    assert len(source_ranges(plan, model.file_bytes)) == 1
    assert source_ranges(plan_shard(model, 0, 6), 0) == [(0, model.file_bytes)]


def test_a_bad_model_leaves_no_shard(tmp_path: Path) -> None:
    bad, out = tmp_path / "bad.gguf", tmp_path / "out.gguf"
    bad.write_bytes(b"GGUF")
    with pytest.raises(BadModel):
        write_shard(bad, 0, 1, out)
    assert not out.exists()


def test_the_demo_model_is_cut_in_bounded_memory(demo_model: Path) -> None:
    tracemalloc.start()
    try:
        digest = hash_shard(demo_model, 10, 20)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert digest.size_bytes == 22_247_008
    # The head of this model is 1.8 MB; its 22 MB of layers pass in chunks.
    assert peak < 12 << 20
