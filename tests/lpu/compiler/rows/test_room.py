"""Where rows and weights lie: never two on one word, and what does not fit is said."""

from __future__ import annotations

import pytest

from atoll.domain.errors import BadRequest
from atoll.lpu.compiler.rows.room import LOAD_STREAMS, Room
from atoll.lpu.machine import shipped_chips
from atoll.lpu.timing import Timing, shipped_assumed

TIMING = Timing(shipped_chips().find("Groq TSP"), shipped_assumed())


def test_no_word_is_given_twice() -> None:
    room = Room(TIMING)
    for n in range(30):
        room.weights("w", (n,), columns=300, number="int8", side="east")
        room.given("x", (n,), "f16", 50, local=n % 2 == 0)
        room.table("b", (n,), side="west", slot=n % 2)
    held = [
        (p.side, s, a)
        for p in room.pieces
        for s in p.slices
        for a in range(p.address, p.address + p.words)
    ]
    y = room.rows("f32", 40, side="west", slot=1)
    held += [(y.side, s, a) for s in y.slices for a in range(y.address, y.address + y.count)]
    assert len(set(held)) == len(held)


def test_rows_that_are_written_come_into_other_slices_than_those_that_are_read() -> None:
    room = Room(TIMING)
    read = [room.given("x", (n,), "int8", 9, side="west") for n in range(5)]
    for _ in range(20):
        written = room.rows("int8", 9, side="west", avoid=read)
        assert not set(written.slices) & {s for tensor in read for s in tensor.slices}


def test_weights_come_on_eight_streams() -> None:
    found = Room(TIMING).weights("w", (), columns=320, number="f16", side="west")
    assert (found.streams, found.words) == (LOAD_STREAMS, 80)


def test_layers_that_do_not_fit() -> None:
    room = Room(TIMING, layers=3)
    room.given("x", (), "int8", 3000, side="west", slot=0, local=True)
    with pytest.raises(BadRequest, match="808 words are missing"):
        room.check()
