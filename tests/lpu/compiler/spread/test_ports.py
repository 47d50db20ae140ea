"""Memory for what is on the way: no two have the same words, ports have slices of their own."""

from __future__ import annotations

import pytest

from atoll.domain.errors import BadRequest
from atoll.lpu.compiler.spread.ports import Ports
from atoll.lpu.machine import shipped_chips
from atoll.lpu.timing import Timing, shipped_assumed

TIMING = Timing(shipped_chips().find("Groq TSP"), shipped_assumed())


def test_no_two_share_a_word() -> None:
    ports = Ports(TIMING, 2)
    given = [ports.take(0, side, "f32", 7) for side in ("west", "east", "west") for _ in range(9)]
    given += [ports.arrivals(0, port, "f16", 5)[0] for port in range(20)]
    words = [(t.side, s, t.address + n) for t in given for s in t.slices for n in range(t.count)]
    assert len(set(words)) == len(words)


def test_ports_of_a_node_have_slices_and_streams_of_their_own() -> None:
    ports = Ports(TIMING, 1)
    found = [ports.arrivals(0, port, "f32", 1) for port in range(8)]
    assert len({(t.side, t.slices) for t, _ in found}) == 8
    assert len({(t.side, stream) for t, stream in found}) == 8
    assert max(stream for _, stream in found) < TIMING.assumed.link_streams


def test_everywhere_is_the_same_place() -> None:
    first, second = Ports(TIMING, 2).everywhere("east", "f16", 3)
    assert first == second
    assert first is not second


def test_no_more_than_there_is() -> None:
    ports = Ports(TIMING, 1)
    ports.arrivals(0, 3, "f16", TIMING.words)
    with pytest.raises(BadRequest, match="8193 vectors in a slice of 8192 words"):
        ports.arrivals(0, 3, "f16", 1)


def test_groups_of_some_slices() -> None:
    ports = Ports(TIMING, 1, slices=range(16, 28), group=2)
    assert ports.count == 8
    found = [ports.arrivals(0, port, "f16", 1)[0] for port in range(9)]
    assert [t.slices for t in found[::2]] == [(16, 17), (18, 19), (20, 21), (22, 23), (16, 17)]
    assert found[8].address == 1
    assert {ports.take(0, "west", "f16", 1).slices for _ in range(2)} == {(24, 25), (26, 27)}
