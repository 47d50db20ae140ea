"""Models in several files: one model if the parts agree, a clear refusal if they do not."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import gguf
import numpy as np
import pytest
from tests.support.split_models import (
    Keys,
    i32,
    part_name,
    rewrite_part,
    split_model,
    u16,
    write_part,
)

from atoll.domain.errors import BadModel, CannotCut
from atoll.model.gguf import open_gguf
from atoll.model.gguf_types import MetaValue, ValueType
from atoll.model.parts import (
    PARTS_MAX,
    model_paths,
    open_bytes,
    open_model,
    part_names,
    stem_of,
    tensor_file,
)
from atoll.model.shard import hash_shard, write_shard

MakeModel = Callable[..., Path]
BOUNDS = [[20], [1, 30], [0, 20, 40]]
"""Two parts, three (the embedding alone in the first), and four (nothing in the first)."""


@pytest.fixture
def single(random_model: MakeModel) -> Path:
    return random_model("gemma3")


@pytest.fixture
def parts(single: Path, tmp_path: Path) -> list[Path]:
    return split_model(single, tmp_path, [1, 30], "m")


def joined(paths: list[Path]) -> bytes:
    return b"".join(path.read_bytes() for path in paths)


@pytest.mark.parametrize("bounds", BOUNDS)
def test_parts_are_read_as_the_model_they_were(
    single: Path, tmp_path: Path, bounds: list[int]
) -> None:
    paths = split_model(single, tmp_path, bounds)
    one, many = open_model(single), open_model(paths[0])
    assert dict(many.metadata) == dict(one.metadata)
    assert [(t.name, t.dims, t.type) for t in many.tensors] == [
        (t.name, t.dims, t.type) for t in one.tensors
    ]
    assert model_paths(paths[0], many) == tuple(paths)
    assert many.part_bytes == tuple(path.stat().st_size for path in paths)
    assert many.file_bytes == sum(many.part_bytes)
    whole, row = single.read_bytes(), joined(paths)
    for mine, theirs in zip(one.tensors, many.tensors, strict=True):
        data = row[theirs.offset : theirs.offset + theirs.size_bytes]
        assert data == whole[mine.offset : mine.offset + mine.size_bytes]
        path, placed = tensor_file(paths[0], many, theirs)
        with path.open("rb") as file:
            file.seek(placed.offset)
            assert file.read(placed.size_bytes) == data


@pytest.mark.parametrize("bounds", BOUNDS)
def test_shards_are_those_of_the_model_in_one_file(
    single: Path, tmp_path: Path, bounds: list[int]
) -> None:
    first = split_model(single, tmp_path, bounds)[0]
    for a, b in pairwise([0, 1, 4, 8]):
        one, many = tmp_path / "one.gguf", tmp_path / "many.gguf"
        digest = write_shard(single, a, b, one)
        assert write_shard(first, a, b, many) == digest == hash_shard(first, a, b)
        assert one.read_bytes() == many.read_bytes()


def test_a_model_that_was_merged_has_the_same_shards(single: Path, tmp_path: Path) -> None:
    """llama.cpp's merge leaves `split.count` = 0 and the rest behind."""
    merged = tmp_path / "merged.gguf"
    shutil.copy(single, merged)
    rewrite_part(
        merged, {"split.no": u16(0), "split.count": u16(0), "split.tensors.count": i32(75)}
    )
    assert open_model(merged).part_bytes == ()
    assert hash_shard(merged, 2, 5) == hash_shard(single, 2, 5)


def test_the_whole_is_named_by_all_bytes_and_never_written(
    parts: list[Path], tmp_path: Path
) -> None:
    digest = hash_shard(parts[0], 0, 8)
    assert digest.shard == hashlib.sha256(joined(parts)).hexdigest()
    with pytest.raises(CannotCut, match="in 3 files"):
        write_shard(parts[0], 0, 8, tmp_path / "whole.gguf")


def test_a_split_into_one_file_is_a_model_in_one_file(single: Path, tmp_path: Path) -> None:
    [path] = split_model(single, tmp_path, [])
    model = open_model(path)
    assert model.part_bytes == ()
    assert tensor_file(path, model, model.tensors[3]) == (path, model.tensors[3])
    with open_bytes(path, model) as file:
        assert file.read() == path.read_bytes()


def test_the_bytes_of_all_parts_are_read_in_any_steps(parts: list[Path]) -> None:
    model, row = open_model(parts[0]), joined(parts)
    edge = model.part_bytes[0]
    with open_bytes(parts[0], model) as file:
        assert file.read() == row
        assert file.read(1) == b""
        for start, size in ((0, 5), (edge - 3, 7), (edge, 1), (len(row) - 2, 9), (len(row), 1)):
            assert file.seek(start) == start
            assert file.read(size) == row[start : start + size]
        assert file.seek(-4, 2) == len(row) - 4
        assert file.seek(2, 1) == len(row) - 2
        with pytest.raises(ValueError, match="before"):
            file.seek(-len(row) - 1, 2)
    parts[2].write_bytes(parts[2].read_bytes()[:-32])
    with open_bytes(parts[0], model) as file:
        assert file.read() == row[:-32]


def test_what_llama_cpps_own_writer_splits_is_read(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "w.gguf", "llama", split_max_tensors=2)
    writer.add_block_count(1)
    data = [np.arange(64, dtype=np.float32) * (i + 1) for i in range(5)]
    for i, values in enumerate(data):
        writer.add_tensor(f"t{i}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    path = tmp_path / part_name("w", 1, 3)
    model = open_model(path)
    assert model.integer("llama.block_count") == 1
    assert [t.name for t in model.tensors] == [f"t{i}.weight" for i in range(5)]
    with open_bytes(path, model) as file:
        for tensor, values in zip(model.tensors, data, strict=True):
            file.seek(tensor.offset)
            assert file.read(tensor.size_bytes) == values.tobytes()


def test_names_of_parts() -> None:
    names = tuple(part_name("a/b", i, 3) for i in (1, 2, 3))
    assert part_names(names[0]) == names
    assert part_names("model.gguf") == ("model.gguf",)
    assert part_names("m-00001-of-00001.gguf") == ("m-00001-of-00001.gguf",)
    with pytest.raises(BadModel, match="not the first part") as caught:
        part_names(names[1])
    assert names[0] in caught.value.hint
    for count in (0, PARTS_MAX + 1, 99_999):
        with pytest.raises(BadModel, match=f"one of {count} parts"):
            part_names(part_name("m", 1, count))
    assert (stem_of(names[2]), stem_of("M.GGUF"), stem_of("m")) == ("a/b", "M", "m")


def text(value: str) -> MetaValue:
    return MetaValue.of(ValueType.STRING, value)


BAD_KEYS: list[tuple[int, Keys, str]] = [
    (0, {"split.count": u16(2)}, "first of 2 parts by what it holds, but not by its name"),
    (0, {"split.count": u16(4)}, "first of 4 parts by what it holds, but not by its name"),
    (0, {"split.count": u16(65_535)}, "first of 65535 parts"),
    (0, {"split.count": i32(3)}, "of type int32"),
    (0, {"split.no": u16(1)}, "part 2 of a model in 3 files"),
    (0, {"split.no": i32(0)}, "of type int32"),
    (0, {"split.tensors.count": i32(76)}, "of another model"),
    (0, {"split.tensors.count": u16(75)}, "of type uint16"),
    (1, {"split.no": u16(2)}, r"m-00002-of-00003\.gguf is not part 2 of 3, but part 3"),
    (2, {"split.no": u16(0)}, r"not part 3 of 3, but part 1"),
    (1, {"split.no": i32(1)}, "part 2 of 3, .*: split.no is of type int32"),
    (1, {"split.count": u16(2)}, "part 2 of 3, .* is of another model .* split.count"),
    (2, {"split.tensors.count": i32(7)}, r"another model .* split.tensors.count"),
    (1, {"general.architecture": text("llama")}, "another model .* general.architecture"),
    (1, {"some.key": text("new")}, "another model .* some.key"),
]


@pytest.mark.parametrize(("part", "keys", "problem"), BAD_KEYS)
def test_claims_that_do_not_fit_each_other(
    parts: list[Path], part: int, keys: Keys, problem: str
) -> None:
    rewrite_part(parts[part], keys)
    with pytest.raises(BadModel, match=problem):
        open_model(parts[0])


@pytest.mark.parametrize("key", ["split.no", "split.count", "split.tensors.count"])
def test_a_part_that_says_less_than_it_must(parts: list[Path], key: str) -> None:
    rewrite_part(parts[1], {}, without=[key])
    with pytest.raises(BadModel, match=f"part 2 of 3, .*: {key} is missing"):
        open_model(parts[0])


def test_a_first_part_without_architecture(parts: list[Path]) -> None:
    rewrite_part(parts[0], {}, without=["general.architecture"])
    with pytest.raises(BadModel, match="architecture"):
        open_model(parts[0])


def test_the_same_metadata_in_a_further_part_does_no_harm(parts: list[Path]) -> None:
    rewrite_part(parts[1], {"general.architecture": text("gemma3")})
    assert open_model(parts[0]).architecture == "gemma3"


def test_another_part_than_the_first_is_not_the_model(parts: list[Path]) -> None:
    with pytest.raises(BadModel, match="part 2 of a model in 3 files") as caught:
        open_model(parts[1])
    assert "-00001-of-00003.gguf" in caught.value.hint


@pytest.mark.parametrize("missing", [1, 2])
def test_a_missing_part_is_named(parts: list[Path], missing: int) -> None:
    parts[missing].unlink()
    with pytest.raises(BadModel, match=f"part {missing + 1} of 3 of the model is missing"):
        open_model(parts[0])


def test_parts_in_the_wrong_order(parts: list[Path], tmp_path: Path) -> None:
    spare = tmp_path / "spare"
    parts[1].rename(spare)
    parts[2].rename(parts[1])
    spare.rename(parts[2])
    with pytest.raises(BadModel, match="is not part 2 of 3, but part 3") as caught:
        open_model(parts[0])
    assert "renamed" in caught.value.hint


def test_a_part_of_another_model(
    parts: list[Path], tmp_path: Path, random_model: MakeModel
) -> None:
    other = split_model(random_model("llama"), tmp_path, [1, 30], "other")
    shutil.copy(other[1], parts[1])
    with pytest.raises(BadModel, match="another model"):
        open_model(parts[0])


def test_a_damaged_part_is_named(parts: list[Path]) -> None:
    parts[2].write_bytes(parts[2].read_bytes()[:-100])
    with pytest.raises(BadModel, match=r"part 3 of 3, m-00003-of-00003\.gguf: the model file ends"):
        open_model(parts[0])
    parts[2].write_bytes(b"no model")
    with pytest.raises(BadModel, match=r"part 3 of 3, .*: not a GGUF file"):
        open_model(parts[0])


def resplit(single: Path, parts: list[Path], kept: list[int]) -> None:
    """Write part 3 again with only some of its tensors, by their index from its first."""
    tensors = open_gguf(single).tensors[30:]
    keys = dict(open_gguf(parts[2], is_part=True).metadata)
    write_part(parts[2], keys, [tensors[i] for i in kept], single)


def test_a_tensor_in_no_part(single: Path, parts: list[Path]) -> None:
    n_tensors = len(open_gguf(single).tensors)
    resplit(single, parts, list(range(1, n_tensors - 30)))
    with pytest.raises(BadModel, match=f"claims {n_tensors} tensors, its 3 parts hold") as caught:
        open_model(parts[0])
    assert str(n_tensors - 1) in caught.value.problem


def test_a_tensor_in_two_parts(single: Path, parts: list[Path]) -> None:
    tensors = open_gguf(single).tensors
    keys = dict(open_gguf(parts[2], is_part=True).metadata)
    write_part(parts[2], keys, [tensors[1], *tensors[31:]], single)
    with pytest.raises(BadModel, match="is in part 2 and part 3"):
        open_model(parts[0])


def test_more_tensors_than_a_model_may_have(
    parts: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atoll.model.parts.TENSORS_MAX", 40)
    with pytest.raises(BadModel, match="more than 40 tensors"):
        open_model(parts[0])


def test_a_tensor_beyond_the_parts(parts: list[Path]) -> None:
    model = open_model(parts[0])
    lost = replace(model.tensors[0], offset=model.file_bytes)
    with pytest.raises(BadModel, match="beyond"):
        tensor_file(parts[0], model, lost)
