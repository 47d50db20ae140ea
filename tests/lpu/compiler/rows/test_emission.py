"""Streams of an emission, and rows that go to several places."""

from __future__ import annotations

import pytest

from atoll.lpu.compiler.chain import Chain
from atoll.lpu.compiler.rows.emission import LANES, Emission, Target
from atoll.lpu.compiler.rows.room import Room
from atoll.lpu.machine import shipped_chips
from atoll.lpu.program import Alu, Write
from atoll.lpu.timing import Timing, shipped_assumed

TIMING = Timing(shipped_chips().find("Groq TSP"), shipped_assumed())


@pytest.mark.parametrize("lane", range(LANES))
def test_streams_of_an_emission_are_its_own(lane: int) -> None:
    emission = Emission(Chain(TIMING), 0, 1, 1, 0, lane)
    masks = [emission.streams("west", "out", width).mask for width in (1, 4, 2, 1)]
    assert sum(masks) == masks[0] | masks[1] | masks[2] | masks[3]
    assert sum(masks) >> 2 < 1 << 12


def test_every_other_row_goes_elsewhere() -> None:
    room = Room(TIMING)
    x = room.given("x", (), "f16", 6, side="west")
    even, odd = (room.rows("f16", 3, side="east") for _ in range(2))
    emission = Emission(Chain(TIMING), 0, 6, 2, 0, 0)
    targets = [Target(even, 0, 3, 0, 2), Target(odd, 0, 3, 1, 2)]
    emission.vector([emission.operand(x, 0)], [Alu("relu", (0,))], [(1, "f16", targets)])
    writes = [i for i in emission.chain.instructions if isinstance(i, Write)]
    assert [w.at - writes[0].at for w in writes] == [0, 2]
    assert [(w.count, w.stride) for w in writes] == [(3, 4), (3, 4)]
