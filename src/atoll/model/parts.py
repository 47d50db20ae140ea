"""A model in one file or in several, seen as one.

llama.cpp's gguf-split cuts a model into NAME-00001-of-00003.gguf and so on.
The first part has all metadata; each has `split.no`, `split.count` and
`split.tensors.count`, and some of the tensors. Here such a model is the row of
its parts' bytes: offsets count from the start of the first part, and the
model's name is the hash of all of them in order. What the parts claim is
checked against each other before anything is read.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO

from atoll.domain.errors import BadModel
from atoll.model.gguf import TENSORS_MAX, check_named, open_gguf
from atoll.model.gguf_types import PULL_AGAIN, GgufFile, MetaValue, TensorInfo, ValueType

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PARTS_MAX = 1024
"""More files than any model was ever split into; names have room for 99,999."""
SPLIT_KEYS = "split."
NUMBER, COUNT, TENSORS = "split.no", "split.count", "split.tensors.count"
_NAME = re.compile(r"(.+)-([0-9]{5})-of-([0-9]{5})\.gguf")


def part_names(first: str) -> tuple[str, ...]:
    """File names of all parts, from the name of the first; just that for a model in one file.

    Raises:
        BadModel: The name is of another part than the first, or of too many parts.
    """
    match = _NAME.fullmatch(first)
    if match is None:
        return (first,)
    stem, number, count = match[1], int(match[2]), int(match[3])
    if not 1 <= count <= PARTS_MAX:
        raise BadModel(
            f"{first} claims to be one of {count} parts; 1 to {PARTS_MAX} are allowed",
            hint="get the model in fewer files",
        )
    names = tuple(f"{stem}-{i:05d}-of-{count:05d}.gguf" for i in range(1, count + 1))
    if number != 1:
        raise BadModel(f"{first} is not the first part of the model", hint=f"give {names[0]}")
    return names


def stem_of(name: str) -> str:
    """The name of a model's file or first part without ending and part number."""
    match = _NAME.fullmatch(name)
    return match[1] if match else re.sub(r"\.gguf$", "", name, flags=re.IGNORECASE)


def open_model(path: Path) -> GgufFile:
    """Read the head of a model, of all its parts if it is in several.

    Args:
        path: Its file, or the first of its parts; the others lie beside it.

    Raises:
        BadModel: What is wrong with it, in which part, and what to do.
    """
    first = open_gguf(path, is_part=True)
    count = _claim(first, COUNT, ValueType.UINT16) if COUNT in first.metadata else 0
    if count <= 1:
        check_named(first)
        return first
    names = _names(path, first, count)
    check_named(first)
    parts = [first]
    for i in range(1, count):
        parts.append(_open_part(path.with_name(names[i]), i, first))
        if sum(len(part.tensors) for part in parts) > TENSORS_MAX:
            raise BadModel(f"the parts hold more than {TENSORS_MAX} tensors", hint=PULL_AGAIN)
    return _joined(parts)


def _names(path: Path, first: GgufFile, count: int) -> tuple[str, ...]:
    number = _claim(first, NUMBER, ValueType.UINT16)
    if number != 0:
        raise BadModel(
            f"{path.name} is part {number + 1} of a model in {count} files, not the first",
            hint=f"give the file that ends in -00001-of-{count:05d}.gguf",
        )
    names = part_names(path.name)
    if len(names) != count:
        raise BadModel(
            f"{path.name} is the first of {count} parts by what it holds, but not by its name",
            hint=f"name the parts NAME-00001-of-{count:05d}.gguf and so on",
        )
    return names


def _open_part(path: Path, i: int, first: GgufFile) -> GgufFile:
    """Part `i`, counted from 0, checked against the first."""
    count = _claim(first, COUNT, ValueType.UINT16)
    what = f"part {i + 1} of {count}"
    if not path.is_file():
        raise BadModel(
            f"{what} of the model is missing: {path}", hint="put all parts in one folder"
        )
    try:
        part = open_gguf(path, is_part=True)
        number = _claim(part, NUMBER, ValueType.UINT16)
        others = [
            (key, _claim(part, key, kind), _claim(first, key, kind))
            for key, kind in ((COUNT, ValueType.UINT16), (TENSORS, ValueType.INT32))
        ]
    except BadModel as error:
        raise BadModel(f"{what}, {path.name}: {error.problem}", hint=error.hint) from error
    if number != i:
        raise BadModel(
            f"{path.name} is not {what}, but part {number + 1}",
            hint="the parts were renamed; get them again",
        )
    foreign = [key for key, mine, firsts in others if mine != firsts]
    foreign += [
        key
        for key, value in part.metadata.items()
        if not key.startswith(SPLIT_KEYS) and first.metadata.get(key) != value
    ]
    if foreign:
        raise BadModel(
            f"{what}, {path.name}, is of another model than the first: {foreign[0]} differs",
            hint="get all parts of one model",
        )
    # The first part's metadata is the model's; hostile heads are not kept beside it.
    return replace(part, metadata=MappingProxyType({}))


def _joined(parts: Sequence[GgufFile]) -> GgufFile:
    first = parts[0]
    starts = [0, *accumulate(part.file_bytes for part in parts)]
    seen: dict[str, int] = {}
    tensors: list[TensorInfo] = []
    for i, part in enumerate(parts):
        for tensor in part.tensors:
            if tensor.name in seen:
                raise BadModel(
                    f"tensor {tensor.name!r} is in part {seen[tensor.name] + 1} and part {i + 1}",
                    hint="get all parts of one model",
                )
            seen[tensor.name] = i
            tensors.append(replace(tensor, offset=starts[i] + tensor.offset))
    claimed = _claim(first, TENSORS, ValueType.INT32)
    if claimed != len(tensors):
        raise BadModel(
            f"the model claims {claimed} tensors, its {len(parts)} parts hold {len(tensors)}",
            hint="get all parts of one model",
        )
    metadata = {k: v for k, v in first.metadata.items() if not k.startswith(SPLIT_KEYS)}
    return replace(
        first,
        metadata=MappingProxyType(metadata),
        tensors=tuple(tensors),
        file_bytes=starts[-1],
        part_bytes=tuple(part.file_bytes for part in parts),
    )


def _claim(part: GgufFile, key: str, kind: ValueType) -> int:
    """A number about the split, of exactly the type that the engine reads (it aborts else)."""
    value: MetaValue | None = part.metadata.get(key)
    if value is None or value.type is not kind:
        said = "is missing" if value is None else f"is of type {value.type.name.lower()}"
        raise BadModel(f"{key} {said}, not of type {kind.name.lower()}", hint=PULL_AGAIN)
    return int(value.scalar())


def model_paths(path: Path, model: GgufFile) -> tuple[Path, ...]:
    """All files of the model whose file or first part is at `path`."""
    if not model.part_bytes:
        return (path,)
    return tuple(path.with_name(name) for name in part_names(path.name))


def tensor_file(path: Path, model: GgufFile, tensor: TensorInfo) -> tuple[Path, TensorInfo]:
    """Which file a tensor lies in, and the tensor with its offset in that file."""
    start = 0
    for file, size in zip(model_paths(path, model), model.part_bytes or (0,), strict=True):
        if not size or tensor.offset < start + size:
            return file, replace(tensor, offset=tensor.offset - start)
        start += size
    raise BadModel(f"tensor {tensor.name!r} lies beyond the model's parts", hint=PULL_AGAIN)


def open_bytes(path: Path, model: GgufFile) -> BinaryIO:
    """The bytes of a model, all parts in a row, for reading; the caller closes it."""
    if not model.part_bytes:
        return path.open("rb")
    return io.BufferedReader(_Row(model_paths(path, model), model.part_bytes), 1 << 20)


class _Row(io.RawIOBase):
    """Files in a row as one; one of them is open at a time."""

    def __init__(self, paths: Sequence[Path], sizes: Sequence[int]) -> None:
        self._paths = paths
        self._starts = [0, *accumulate(sizes)]
        self._at = 0
        self._open: tuple[int, BinaryIO] | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._starts[-1]}[whence]
        if base + offset < 0:
            raise ValueError("a position before the start")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        if self._at >= self._starts[-1]:
            return 0
        i = next(i for i, end in enumerate(self._starts[1:]) if self._at < end)
        view = memoryview(buffer).cast("B")[: self._starts[i + 1] - self._at]
        file = self._part(i)
        file.seek(self._at - self._starts[i])
        data = file.read(len(view))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _part(self, i: int) -> BinaryIO:
        if self._open is None or self._open[0] != i:
            self._shut()
            self._open = (i, self._paths[i].open("rb"))
        return self._open[1]

    def _shut(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def close(self) -> None:
        self._shut()
        super().close()
