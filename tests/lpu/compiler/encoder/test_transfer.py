"""Rows that go to another chip are there, by every route."""

from __future__ import annotations

import numpy as np
import pytest

from atoll.domain.errors import BadRequest
from atoll.lpu.check.programs import check
from atoll.lpu.compiler.encoder.transfer import transfer
from atoll.lpu.compiler.rows.room import Room
from atoll.lpu.compiler.rows.words import row_words
from atoll.lpu.machine import shipped_chips
from atoll.lpu.program import Program, Step
from atoll.lpu.simulator.simulator import Simulator
from atoll.lpu.timing import Timing, shipped_assumed

TIMING = Timing(shipped_chips().find("Groq TSP"), shipped_assumed())


@pytest.mark.parametrize("relays", [0, 1, 2, 6])
def test_rows_arrive(relays: int) -> None:
    room = Room(TIMING)
    rows = [room.given("x", (n,), "f16", 7) for n in range(6)]
    routine = transfer(TIMING, rows, relays)
    chips = tuple(range(relays + 2))
    program = Program(len(chips), (routine,), (Step(0, chips, 0),))
    assert check(program, TIMING) == []
    simulator = Simulator(program, TIMING)
    rng = np.random.default_rng(relays)
    for tensor in rows:
        words = row_words(rng.normal(size=(7, 300)), "f16", TIMING.lanes)
        simulator.poke(0, tensor.side, tensor.slices, tensor.address, words)
    simulator.run()
    for tensor in rows:
        place = (tensor.side, tensor.slices, tensor.address, tensor.count)
        assert (simulator.peek(1, *place) == simulator.peek(0, *place)).all()
    longest = -(-12 // (1 + relays)) * 7 * TIMING.link_cycles
    assert longest < routine.cycles < longest + 2 * TIMING.received(0) + 100


def test_more_routes_than_a_link_has_cycles() -> None:
    with pytest.raises(BadRequest, match="cannot pass on"):
        transfer(TIMING, [Room(TIMING).given("x", (), "f16", 7)], 30)
