"""Who gave what is taken: vectors matched by stream and phase.

A stream is a list of those who give on it. What a taker finds at its position with a phase is
what the nearest giver upstream of it put there with that phase.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.domain.errors import BadRequest
from atoll.lpu.program import Number
from atoll.lpu.simulator.alu import HELD, Array, Bytes, decode, encode

Integers = NDArray[np.int64]
Span = slice | Integers


@dataclass(frozen=True, slots=True)
class Output:
    """What a unit gives: numbers of shape (vectors, lanes), or, without a format, bytes of
    shape (vectors, streams, lanes).
    """

    unit: int
    order: int
    number: Number | None


@dataclass(frozen=True, slots=True)
class Given:
    """A stream's vectors of an output: its byte `byte`, put on the stream at `position`."""

    output: Output
    byte: int
    position: int
    at: int
    count: int
    stride: int


@dataclass(frozen=True, slots=True)
class Part:
    """Vectors `source` of an output become vectors `target` of what is taken: its streams
    `byte` to `byte + width - 1` streams `stream` onward, or, where both are numbers of one
    format, the numbers.
    """

    output: Output
    source: Span
    target: Span
    byte: int
    stream: int
    width: int


@dataclass(frozen=True, slots=True)
class Taken:
    """All that is taken from some streams: `count` vectors of `width` bytes a lane."""

    count: int
    width: int
    number: Number | None
    as_numbers: bool
    parts: tuple[Part, ...]

    def fetch(self, outputs: Sequence[Sequence[Array]], lanes: int) -> Array:
        """Numbers of shape (vectors, lanes), or bytes of shape (vectors, streams, lanes). It
        may be a view.
        """
        if self.as_numbers:
            return self._numbers(outputs, lanes)
        found = self._bytes(outputs, lanes)
        return found if self.number is None else decode(found, self.number)

    def _numbers(self, outputs: Sequence[Sequence[Array]], lanes: int) -> Array:
        first = self.parts[0]
        if len(self.parts) == 1:
            return outputs[first.output.unit][first.output.order][first.source]
        assert self.number is not None
        found = np.empty((self.count, lanes), HELD[self.number])
        for part in self.parts:
            given = outputs[part.output.unit][part.output.order]
            found[part.target] = given[part.source]
        return found

    def _bytes(self, outputs: Sequence[Sequence[Array]], lanes: int) -> Bytes:
        found: Bytes | None = None
        for part in self.parts:
            given: Array = outputs[part.output.unit][part.output.order][part.source]
            if part.output.number is not None:
                given = encode(given, part.output.number)
            given = given[:, part.byte : part.byte + part.width]
            if len(self.parts) == 1:
                return given
            if found is None:
                found = np.empty((self.count, self.width, lanes), np.uint8)
            found[part.target, part.stream : part.stream + part.width] = given
        assert found is not None
        return found


@dataclass(slots=True)
class _Stream:
    given: list[Given] = field(default_factory=list)
    table: Integers | None = None


class Streams:
    """All streams of a routine's chips, and the links between them."""

    def __init__(self) -> None:
        self._streams: dict[Hashable, _Stream] = {}

    def give(self, key: Hashable, given: Given) -> None:
        """Note who gives on a stream, before any is taken from it."""
        stream = self._streams.setdefault(key, _Stream())
        assert stream.table is None
        stream.given.append(given)

    def take(
        self,
        keys: Sequence[Hashable],
        positions: Sequence[int],
        phases: Integers,
        *,
        inward: bool,
        number: Number | None,
        name: str,
    ) -> Taken:
        """What lies on streams beside each other, at a position of each, with these phases.

        Raises:
            BadRequest: Nobody gave it, or two at one place.
        """
        found: list[list[Given]] = []
        which = np.empty((len(keys), len(phases)), np.int64)
        vectors = np.empty((len(keys), len(phases)), np.int64)
        for i, (key, position) in enumerate(zip(keys, positions, strict=True)):
            stream = self._streams.get(key) or _Stream()
            which[i], vectors[i] = _nearest(stream, position, phases, inward, f"{name}: {key}")
            found.append(stream.given)
        return _taken(found, which, vectors, number)


def _nearest(
    stream: _Stream, position: int, phases: Integers, inward: bool, name: str
) -> tuple[Integers, Integers]:
    """Of each phase, which of a stream's givers it is from, and which of its vectors."""
    if stream.table is None:
        rows = [(g.position, g.at, g.count, g.stride) for g in stream.given]
        stream.table = np.array(rows, np.int64).reshape(-1, 4).T
    places, starts, counts, strides = stream.table
    # Distances upstream of the taker, the nearest last, so that it has the last word.
    distances = (places - position) * (1 if inward else -1)
    near = (distances > 0) & (starts <= phases[-1])
    near &= starts + (counts - 1) * strides >= phases[0]
    candidates = np.flatnonzero(near)
    candidates = candidates[np.argsort(-distances[candidates], kind="stable")]
    which = np.full(len(phases), -1, np.int64)
    vectors = np.zeros(len(phases), np.int64)
    for c in candidates.tolist():
        n, rest = np.divmod(phases - starts[c], strides[c])
        hits = (rest == 0) & (n >= 0) & (n < counts[c])
        twice = hits & (which >= 0) & (places[which] == places[c])
        if twice.any():
            raise BadRequest(f"{name}: two give at phase {phases[twice][0]} at one place")
        which[hits] = c
        vectors[hits] = n[hits]
    if (missing := which < 0).any():
        raise BadRequest(
            f"{name}: nobody gave what should be there at phase {phases[missing][0]} "
            f"({int(missing.sum())} of {len(phases)} vectors are missing)"
        )
    return which, vectors


def _taken(
    found: Sequence[Sequence[Given]], which: Integers, vectors: Integers, number: Number | None
) -> Taken:
    width, count = which.shape
    rows = [_row(found[i], which[i], vectors[i]) for i in range(width)]
    if number is not None and _fits(rows, number):
        parts = [Part(output, s, t, 0, 0, width) for output, byte, s, t in rows[0]]
        return Taken(count, width, number, True, tuple(parts))
    parts = []
    i = 0
    while i < width:
        last = i + 1
        while last < width and _beside(rows[i], rows[last], last - i):
            last += 1
        parts += [Part(output, s, t, byte, i, last - i) for output, byte, s, t in rows[i]]
        i = last
    return Taken(count, width, number, False, tuple(parts))


_Piece = tuple[Output, int, Span, Span]


def _row(given: Sequence[Given], which: Integers, vectors: Integers) -> list[_Piece]:
    """Of one stream: pieces of outputs, their bytes, and vectors there and here."""
    pieces = []
    for c in np.unique(which).tolist():
        targets = np.flatnonzero(which == c)
        pieces.append((given[c].output, given[c].byte, _span(vectors[targets]), _span(targets)))
    return pieces


def _span(numbers: Integers) -> Span:
    """As a slice if it is one."""
    first = int(numbers[0])
    if len(numbers) == 1:
        return slice(first, first + 1, 1)
    step = int(numbers[1]) - first
    if step > 0 and bool((np.diff(numbers) == step).all()):
        return slice(first, int(numbers[-1]) + 1, step)
    return numbers


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, slice) or isinstance(other, slice):
        return type(one) is type(other) and bool(one == other)
    return np.array_equal(one, other)


def _beside(first: Sequence[_Piece], other: Sequence[_Piece], bytes_on: int) -> bool:
    """Whether a stream has the same vectors of the same outputs as one some bytes before."""
    return len(first) == len(other) and all(
        a[0] is b[0] and a[1] + bytes_on == b[1] and _same(a[2], b[2]) and _same(a[3], b[3])
        for a, b in zip(first, other, strict=True)
    )


def _fits(rows: Sequence[Sequence[_Piece]], number: Number) -> bool:
    """Whether these are whole numbers of that format, byte by byte."""
    if any(piece[0].number != number or piece[1] != 0 for piece in rows[0]):
        return False
    return all(_beside(rows[0], rows[i], i) for i in range(1, len(rows)))
