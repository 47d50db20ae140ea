"""Memory for what is on the way: no two have the same words, ports have slices of their own."""

from __future__ import annotations

import pytest

from atoll.domain.errors import BadRequest
from atoll.lpu.compiler.room import Room
from atoll.lpu.machine import shipped_chips
from atoll.lpu.timing import Timing, shipped_assumed

TIMING = Timing(shipped_chips().find("Groq TSP"), shipped_assumed())


def test_no_two_share_a_word() -> None:
    room = Room(TIMING, 2)
    given = [room.take(0, side, "f32", 7) for side in ("west", "east", "west") for _ in range(9)]
    given += [room.arrivals(0, port, "f16", 5)[0] for port in range(20)]
    words = [(t.side, s, t.address + n) for t in given for s in t.slices for n in range(t.count)]
    assert len(set(words)) == len(words)


def test_ports_of_a_node_have_slices_and_streams_of_their_own() -> None:
    room = Room(TIMING, 1)
    found = [room.arrivals(0, port, "f32", 1) for port in range(8)]
    assert len({(t.side, t.slices) for t, _ in found}) == 8
    assert len({(t.side, stream) for t, stream in found}) == 8
    assert max(stream for _, stream in found) < TIMING.assumed.link_streams


def test_everywhere_is_the_same_place() -> None:
    first, second = Room(TIMING, 2).everywhere("east", "f16", 3)
    assert first == second
    assert first is not second


def test_no_more_than_there_is() -> None:
    room = Room(TIMING, 1)
    room.arrivals(0, 3, "f16", TIMING.words)
    with pytest.raises(BadRequest, match="8193 vectors in a slice of 8192 words"):
        room.arrivals(0, 3, "f16", 1)
