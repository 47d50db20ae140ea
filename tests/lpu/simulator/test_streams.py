"""Who gave what is taken from a stream."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from atoll.domain.errors import BadRequest
from atoll.lpu.program import Number
from atoll.lpu.simulator.alu import Array
from atoll.lpu.simulator.streams import Given, Output, Streams, Taken


def phases(at: int, count: int, stride: int = 1) -> NDArray[np.int64]:
    return at + stride * np.arange(count)


def streams(*given: tuple[int, int, int, int]) -> Streams:
    """Givers of one stream: position, phase, vectors, stride."""
    found = Streams()
    for unit, (position, at, count, stride) in enumerate(given):
        found.give("s", Given(Output(unit, 0, None), 0, position, at, count, stride))
    return found


def take(of: Streams, position: int, at: NDArray[np.int64], *, inward: bool = True) -> Taken:
    return of.take(["s"], [position], at, inward=inward, number=None, name="it")


def origin(taken: Taken) -> list[tuple[int, int]]:
    """Unit and vector of each vector taken, read from data that say so."""
    outputs = []
    for unit in range(6):
        data = np.zeros((50, 1, 2), np.uint8)
        data[:, 0, 0], data[:, 0, 1] = unit, np.arange(50)
        outputs.append([data])
    found = taken.fetch(outputs, 2)
    return [(int(u), int(n)) for u, n in found[:, 0]]


def test_the_nearest_upstream_gives() -> None:
    of = streams((9, 10, 5, 1), (4, 10, 5, 1), (6, 12, 1, 1))
    assert origin(take(of, 5, phases(10, 5))) == [(0, 0), (0, 1), (2, 0), (0, 3), (0, 4)]
    assert origin(take(of, 0, phases(11, 2))) == [(1, 1), (1, 2)]
    outward = take(of, 10, phases(11, 2), inward=False)
    assert origin(outward) == [(0, 1), (0, 2)]
    assert origin(take(of, 9, phases(11, 2), inward=False)) == [(1, 1), (2, 0)]


def test_bursts_are_joined_whatever_their_strides() -> None:
    of = streams((3, 10, 10, 2), (5, 11, 10, 2), (3, 30, 4, 1))
    found = take(of, 1, phases(12, 20))
    even = [(0, 1 + n) for n in range(9)]
    odd = [(1, 1 + n) for n in range(9)]
    joined = [vector for pair in zip(even, odd, strict=True) for vector in pair]
    assert origin(found) == [*joined, (2, 0), (2, 1)]
    assert origin(take(of, 1, phases(10, 4, 6))) == [(0, 0), (0, 3), (0, 6), (0, 9)]


def test_what_is_missing_is_named() -> None:
    of = streams((3, 10, 10, 1))
    with pytest.raises(BadRequest, match=r"it: s: nobody .* phase 20 \(2 of 12 vectors"):
        take(of, 1, phases(10, 12))
    with pytest.raises(BadRequest, match="phase 10"):
        take(of, 3, phases(10, 1))
    with pytest.raises(BadRequest, match="phase 11"):
        take(streams((3, 10, 10, 2)), 1, phases(10, 2))
    with pytest.raises(BadRequest, match="phase 5"):
        take(streams(), 1, phases(5, 1))


def test_two_at_one_place_are_refused() -> None:
    of = streams((3, 10, 10, 1), (3, 15, 1, 1))
    assert len(origin(take(of, 1, phases(10, 5)))) == 5
    with pytest.raises(BadRequest, match="two give at phase 15 at one place"):
        take(of, 1, phases(10, 6))


def numbers(of: Streams, first: int, number: Number) -> Taken:
    width = {"f16": 2, "f32": 4}[number]
    keys = range(first, first + width)
    return of.take(list(keys), [1] * width, phases(0, 3), inward=True, number=number, name="it")


def test_numbers_stay_whole_and_are_cut_where_they_must() -> None:
    of = Streams()
    for unit in range(2):
        output = Output(unit, 0, "f16")
        for byte in range(2):
            of.give(2 * unit + byte, Given(output, byte, 5, 0, 3, 1))
    values: list[list[Array]] = [
        [np.full((3, 4), 1.5, np.float32)],
        [np.full((3, 4), -2.0, np.float32)],
    ]
    whole = numbers(of, 2, "f16")
    assert whole.as_numbers
    assert (whole.fetch(values, 4) == -2.0).all()
    # A low byte of one and a high byte of the other, and both as one number of four bytes.
    crossed = numbers(of, 1, "f16")
    assert not crossed.as_numbers
    raw = np.array([0x3E, 0x00], np.uint8).view("<f2")[0]
    assert (crossed.fetch(values, 4) == np.float32(raw)).all()
    joined = np.array([0x00, 0x3E, 0x00, 0xC0], np.uint8).view("<f4")[0]
    assert (numbers(of, 0, "f32").fetch(values, 4) == joined).all()
