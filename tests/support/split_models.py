"""Splits a model into several files by llama.cpp's rule, or wrongly where a test asks for it.

gguf-split (tools/gguf-split of llama.cpp): all metadata in the first part, then
`split.no`, `split.count` (16 bits) and `split.tensors.count` in every part;
tensors in their order, offsets from each part's own start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from atoll.model import gguf_writer
from atoll.model.gguf import open_gguf
from atoll.model.gguf_types import MetaValue, TensorInfo, ValueType
from atoll.model.gguf_writer import TensorSpec

Keys = Mapping[str, MetaValue]


def u16(value: int) -> MetaValue:
    return MetaValue.of(ValueType.UINT16, value)


def i32(value: int) -> MetaValue:
    return MetaValue.of(ValueType.INT32, value)


def part_name(stem: str, number: int, count: int) -> str:
    """llama.cpp's name of part `number`, counted from 1."""
    return f"{stem}-{number:05d}-of-{count:05d}.gguf"


def split_keys(number: int, count: int, n_tensors: int) -> dict[str, MetaValue]:
    """What every part says; `number` counts from 0."""
    return {
        "split.no": u16(number),
        "split.count": u16(count),
        "split.tensors.count": i32(n_tensors),
    }


def write_part(path: Path, metadata: Keys, tensors: Sequence[TensorInfo], source: Path) -> None:
    """A GGUF file of some tensors of `source`."""
    whole = source.read_bytes()
    specs = [TensorSpec(t.name, t.dims, t.type) for t in tensors]
    data = ([whole[t.offset : t.offset + t.size_bytes]] for t in tensors)
    path.write_bytes(b"".join(gguf_writer.stream(metadata, specs, data)))


def split_model(source: Path, folder: Path, bounds: Sequence[int], stem: str = "") -> list[Path]:
    """Split a model.

    Args:
        source: The model in one file.
        folder: Where the parts go.
        bounds: Before which tensors to begin a new part; 0 at first leaves the first
            part without tensors, as gguf-split can.
        stem: What the parts are called; the source's own name if not given.

    Returns:
        The parts' files in order.
    """
    model = open_gguf(source)
    edges = [0, *bounds, len(model.tensors)]
    count = len(edges) - 1
    paths = []
    for i, (first, last) in enumerate(pairwise(edges)):
        metadata = (dict(model.metadata) if i == 0 else {}) | split_keys(
            i, count, len(model.tensors)
        )
        paths.append(folder / part_name(stem or source.stem, i + 1, count))
        write_part(paths[-1], metadata, model.tensors[first:last], source)
    return paths


def rewrite_part(path: Path, keys: Keys, *, without: Sequence[str] = ()) -> None:
    """Write a part again with some of its metadata changed or left out."""
    part = open_gguf(path, is_part=True)
    metadata = {k: v for k, v in (dict(part.metadata) | dict(keys)).items() if k not in without}
    copy = path.with_suffix(".copy")
    path.rename(copy)
    write_part(path, metadata, part.tensors, copy)
    copy.unlink()
