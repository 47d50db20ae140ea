"""Instructions in words."""

from __future__ import annotations

import pytest
from tests.lpu.check.sound import FIRST, SECOND

from atoll.lpu.program import Flow, Load, Multiply, Read, Receive
from atoll.lpu.wording import described, spans, streams

SAID = {
    "weights": "Read onto west out 0-15, slices 0-15 at 0; 20 vectors from phase 0",
    "load": "Load int8 weights of plane 0 in the west from west out 0-15; 20 vectors from phase 0",
    "multiply": "Multiply int8 of west out 16 by plane 0 in the west, installed anew, into"
    " accumulators 8-11, out on west in 0-3; 4 vectors from phase 21 every 24 cycles",
    "rescale": "Vector f32 mul int8 (int32 of west in 0-3 to int8 on east out 0); 4 vectors from"
    " phase 107 every 24 cycles",
    "keep": "Write from east out 0, slice 3 at 100; 4 vectors from phase 113 every 24 cycles",
    "send": "Send east out 0 to chip 1, lane 0; 4 vectors from phase 113 every 24 cycles",
    "turn": "Switch west out 3 to west in 5, shifted by 0 lanes; 4 vectors from phase 763 every 24"
    " cycles",
    "store": "Write from west in 5, slice 7 at base + 0; 4 vectors from phase 809 every 24 cycles",
}


@pytest.mark.parametrize("name", SAID)
def test_words(name: str) -> None:
    assert described({**FIRST, **SECOND}[name]) == SAID[name]


def test_other_forms() -> None:
    flow = Flow("east", "out", 0, 2)
    read = Read(at=1, flow=flow, slices=(4, 2), address=3, index="token")
    assert (
        described(read) == "Read onto east out 0-1, slices 4, 2 at token + 3; 1 vector from phase 1"
    )
    half = Load(at=0, flow=flow, plane=0, number="f16")
    assert described(half).startswith("Load f16 weights of the planes in the east")
    more = Multiply(at=0, flow=flow, plane=0, number="f16", install=False, clear=False)
    assert "by the planes in the east, added to accumulators 0;" in described(more)
    got = Receive(at=0, flow=Flow("west", "in", 3, 1), source=4, lane=2)
    assert described(got).startswith("Receive onto west in 3 from chip 4, lane 2;")
    assert spans((0, 1, 2, 7, 9, 10)) == "slices 0-2, 7, 9-10"
    assert streams(flow) == "east out 0-1"
