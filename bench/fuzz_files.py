"""Readers of a model's files, and small files for them."""

from __future__ import annotations

import io
import struct
import tempfile
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from random import Random

from atoll.domain.errors import BadModel, CannotCut
from atoll.domain.ids import ModelId
from atoll.model import outline
from atoll.model.architectures import architecture_of, boundaries
from atoll.model.gguf import read_gguf
from atoll.model.gguf_types import GgufFile
from atoll.model.manifest import describe
from atoll.model.parts import open_bytes, open_model, tensor_file
from atoll.model.shard import plan_shard, source_ranges
from atoll.model.shard_source import ShardSource
from atoll.model.source import FileSource
from atoll.model.vocabularies import difference
from bench.fuzz_gguf import Draft, changed_file, draft
from bench.fuzz_target import Target

READ_BYTES_MAX = 1 << 16


def _read_file(data: bytes) -> None:
    """Read the head, and do with it all that is done with a model of a stranger."""
    file = io.BytesIO(data)
    found = read_gguf(file)
    _use(found, FileSource(file))


def _use(found: GgufFile, source: FileSource) -> None:
    describe(found, ModelId("cd" * 32))
    difference(found, found)
    architecture_of(found)
    edges = boundaries(found)
    for first, last in {(edges[0], edges[1]), (edges[-2], edges[-1])}:
        plan = plan_shard(found, first, last)
        source_ranges(plan, 64)
        shard = ShardSource(plan, source)
        assert shard.size_bytes == plan.size_bytes
        shard.read(0, min(READ_BYTES_MAX, shard.size_bytes))


def _read_outline(data: bytes) -> None:
    """The first four bytes say where the data begins. The pieces that are read are made small."""
    front, tails = outline.FRONT_BYTES, outline.TAIL_BYTES
    outline.FRONT_BYTES, outline.TAIL_BYTES = 1024, (512, 2048)
    try:
        outline.read_outline(FileSource(io.BytesIO(data[4:])), int.from_bytes(data[:4], "little"))
    finally:
        outline.FRONT_BYTES, outline.TAIL_BYTES = front, tails


def _outlined(file: bytes) -> bytes:
    """A file with, in front of it, where its data begins; whatever, if it cannot be read."""
    try:
        offset = read_gguf(io.BytesIO(file)).data_offset
    except BadModel:
        offset = len(file) - 200
    return max(0, offset).to_bytes(4, "little") + file


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(
        prefix="atoll-fuzz-", dir=memory if memory.is_dir() else None
    )


def close_folder() -> None:
    """Remove the folder of a model in two files, if there is one."""
    if _folder.cache_info().currsize:
        _folder().cleanup()
        _folder.cache_clear()


def _read_parts(data: bytes) -> None:
    """A model in two files; where the second begins stands in the first two bytes."""
    folder = Path(_folder().name)
    cut = int.from_bytes(data[:2], "little")
    first = folder / "m-00001-of-00002.gguf"
    first.write_bytes(data[2 : 2 + cut])
    first.with_name("m-00002-of-00002.gguf").write_bytes(data[2 + cut :])
    found = open_model(first)
    for tensor in found.tensors:
        tensor_file(first, found, tensor)
    with open_bytes(first, found) as file:
        _use(found, FileSource(file))


def _parts_of(whole: Draft) -> tuple[Draft, Draft]:
    u16, i32 = 2, 5
    sides = []
    for number in range(2):
        tensors, offset = [], 0
        for name, dims, kind, _ in whole.tensors[number::2]:
            tensors.append((name, dims, kind, offset))
            offset += 128
        keys = [
            (b"split.no", u16, struct.pack("<H", number)),
            (b"split.count", u16, struct.pack("<H", 2)),
            (b"split.tensors.count", i32, struct.pack("<i", len(whole.tensors))),
        ]
        metadata = whole.metadata + keys if number == 0 else keys
        sides.append(replace(whole, metadata=metadata, tensors=tensors, data_bytes=offset))
    return sides[0], sides[1]


def _make_parts(sides: tuple[Draft, Draft], rng: Random) -> bytes:
    which = rng.randrange(3)
    first, second = (
        changed_file(side, rng) if which == i else side.bytes() for i, side in enumerate(sides)
    )
    return (len(first) & 0xFFFF).to_bytes(2, "little") + first + second


def file_targets() -> tuple[Target, ...]:
    """A model's head, its outline, and a model in two files."""
    drafts = [draft("llama", 2), draft("gemma3", 6), draft("qwen2", 1)]
    long = [draft("llama", 2, tokens=30), draft("qwen3", 1, tokens=60)]
    # Parts whose tensors all have 128 bytes.
    flat = draft("llama", 2)
    flat = replace(flat, tensors=[(name, (32,), 0, offset) for name, _, _, offset in flat.tensors])
    sides = _parts_of(flat)
    known = (BadModel, CannotCut)
    return (
        Target(
            "gguf",
            _read_file,
            known,
            tuple(one.bytes() for one in drafts),
            lambda rng: changed_file(rng.choice(drafts), rng),
            share=4,
        ),
        Target(
            "outline",
            _read_outline,
            known,
            tuple(_outlined(one.bytes()) for one in long),
            lambda rng: _outlined(changed_file(rng.choice(long), rng)),
            share=1,
        ),
        Target(
            "parts",
            _read_parts,
            known,
            (_make_parts((sides[0], sides[1]), Random(2)),),
            partial(_make_parts, sides),
            share=1,
        ),
    )
