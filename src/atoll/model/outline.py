"""Reads the head of a model without its vocabulary, from two small reads.

The vocabulary fills most of a head, and any shard but the last has none. But
strings have no index: who does not know where the head ends has to read all of
them. Who does know it, from the manifest of somebody who has the model, reads
the first keys from the front, and the last keys and the tensor table from the
end, where they are found by going backwards: what ends where the data begins
is the last tensor's record, what ends where that begins is the one before it.

A head that is put together so is believed only as far as the hash of what is
made from it proves it.
"""

from __future__ import annotations

import dataclasses
import re
import struct
from collections.abc import Callable

from atoll.domain.errors import BadModel
from atoll.model.gguf import DIMS_MAX, HEADER_BYTES_MAX, TENSOR_NAME_BYTES_MAX, read_head
from atoll.model.gguf_types import FORMAT_OF, MAGIC, PULL_AGAIN, GgufFile, ValueType
from atoll.model.source import ByteSource

FRONT_BYTES = 64 * 1024
TAIL_BYTES = (64 * 1024, 512 * 1024)
"""Read from the end, first the one, and if that does not hold the table, the other."""
PADDING_BYTES_MAX = 64
_START = struct.Struct("<4sIQQ")
_KEY = re.compile(rb"[A-Za-z0-9_.-]+")
_KEY_BYTES_MAX = 255
_BYTES_OF = {int(kind): struct.calcsize(form) for kind, form in FORMAT_OF.items()}


def read_outline(source: ByteSource, data_offset: int) -> GgufFile:
    """A model's metadata, less some of its `tokenizer.*` keys, and its tensors.

    Args:
        source: The model's file.
        data_offset: Where its tensors' data begins, bytes.

    Raises:
        BadModel: The file is not sound, or its head is not laid out so that it
            can be read like this; `read_head` can tell.
    """
    if not FRONT_BYTES < data_offset <= HEADER_BYTES_MAX:
        raise _unusual("no head of a usual size")
    front = source.read(0, FRONT_BYTES)
    if len(front) < FRONT_BYTES or source.size_bytes < data_offset:
        raise _unusual("a shorter file")
    magic, version, n_tensors, n_keys = _START.unpack_from(front)
    if magic != MAGIC:
        raise _unusual("no GGUF file")
    at, n_front = _START.size, 0
    front_keys = _Keys(len(front))
    while n_front < n_keys and (end := front_keys.end_of(front, at)) is not None:
        at, n_front = end, n_front + 1
    if not front.startswith(b"tokenizer.", at + 8):
        raise _unusual("something large in front of its vocabulary")
    tail, places = _find_tail(source, data_offset, n_tensors)
    keys_at, table_at, table_end = places[0], places[-1 - n_tensors], places[-1]
    n_tail = places.index(table_at)
    if n_front + n_tail >= n_keys:
        raise _unusual("other keys than it counts")
    start = _START.pack(magic, version, n_tensors, n_front + n_tail)
    found = read_head(_Joined(start + front[_START.size : at] + tail[keys_at:table_end]))
    moved = data_offset - found.data_offset
    tensors = tuple(dataclasses.replace(t, offset=t.offset + moved) for t in found.tensors)
    if tensors[-1].offset + tensors[-1].size_bytes > source.size_bytes:
        raise _unusual("a shorter file")
    return dataclasses.replace(
        found, tensors=tensors, data_offset=data_offset, file_bytes=source.size_bytes
    )


def _unusual(problem: str) -> BadModel:
    return BadModel(f"the head of the model cannot be outlined: {problem}", hint=PULL_AGAIN)


class _Joined:
    """The joined parts of a head as a source; what follows them is nobody's business."""

    size_bytes = 2**62

    def __init__(self, head: bytes) -> None:
        self._head = head

    def read(self, offset: int, size: int) -> bytes:
        return self._head[offset : offset + size]


def _find_tail(source: ByteSource, data_offset: int, n_tensors: int) -> tuple[bytes, list[int]]:
    """The last bytes of the head, and where each of the last keys and all tensors' records begin.

    The last place is where the table ends.
    """
    for size in TAIL_BYTES:
        first = max(0, data_offset - size)
        tail = source.read(first, data_offset - first)
        ends = set(range(len(tail) - PADDING_BYTES_MAX, len(tail) + 1))
        table = _longest_chain(tail, ends, _record_end, n_tensors)
        if len(table) == n_tensors + 1 > 1:
            keys = _longest_chain(tail, {table[0]}, _Keys(len(tail)).end_of)
            return tail, [*keys[:-1], *table]
    raise _unusual("no table of tensors at its end")


def _longest_chain(
    data: bytes, ends: set[int], end_of: Callable[[bytes, int], int | None], most: int = 2**30
) -> list[int]:
    """Where the parts of the longest unbroken row of parts begin that ends in `ends`, and its end.

    It stops at `most` parts. The empty row is [an end].
    """
    after = dict.fromkeys(ends, -1)
    count = dict.fromkeys(ends, 0)
    best = max(ends)
    for at in range(best - 1, -1, -1):
        end = end_of(data, at)
        if end is None or end not in count:
            continue
        count[at], after[at] = count[end] + 1, end
        if count[at] > count[best]:
            best = at
            if count[at] == most:
                break
    chain = [best]
    while (best := after[best]) >= 0:
        chain.append(best)
    return chain


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def _u64(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")


def _record_end(data: bytes, at: int) -> int | None:
    """Where the tensor's record that begins at `at` ends, if one can begin there."""
    size = _u64(data, at)
    if not 1 <= size <= TENSOR_NAME_BYTES_MAX:
        return None
    n_dims = _u32(data, at + 8 + size)
    if not 1 <= n_dims <= DIMS_MAX or not data[at + 8 : at + 8 + size].isascii():
        return None
    end = at + 8 + size + 4 + 8 * n_dims + 4 + 8
    return end if end <= len(data) else None


class _Keys:
    """Finds keys with their values in some data, and walks over no more strings than fit in it.

    Arrays of strings have to be walked over, and data can be made so that each of
    thousands of places seems to begin one over the same strings.
    """

    def __init__(self, data_bytes: int) -> None:
        self._strings_left = data_bytes // 2  # four times as many as there can be

    def end_of(self, data: bytes, at: int) -> int | None:
        """Where the key that begins at `at` ends with its value, if one does and is whole."""
        size = _u64(data, at)
        if not 1 <= size <= _KEY_BYTES_MAX or not _KEY.fullmatch(data, at + 8, at + 8 + size):
            return None
        at += 8 + size
        kind, at = _u32(data, at), at + 4
        if kind == ValueType.ARRAY:
            element, count = _u32(data, at), _u64(data, at + 4)
            if element == ValueType.STRING:
                return self._strings_end(data, at + 12, count)
            at += 12 + count * _BYTES_OF.get(element, 2**62)
        elif kind == ValueType.STRING:
            at += 8 + _u64(data, at)
        else:
            at += _BYTES_OF.get(kind, 2**62)
        return at if at <= len(data) else None

    def _strings_end(self, data: bytes, at: int, count: int) -> int | None:
        if count > len(data) // 8:
            return None
        for _ in range(count):
            if not self._strings_left:
                raise _unusual("the same strings in many places")
            self._strings_left -= 1
            at += 8 + _u64(data, at)
            if at > len(data):
                return None
        return at
