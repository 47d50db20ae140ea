"""Layer norm by products with ones."""

from __future__ import annotations

import numpy as np
import pytest

from atoll.lpu.check.programs import check
from atoll.lpu.compiler.encoder.norm import Norm, ones
from atoll.lpu.compiler.rows.planes import Planes
from atoll.lpu.compiler.rows.room import Room
from atoll.lpu.compiler.rows.words import row_words, rows_of, tile_words
from atoll.lpu.machine import shipped_chips
from atoll.lpu.program import SIDES, Program, Step
from atoll.lpu.simulator.simulator import Simulator
from atoll.lpu.timing import Timing, shipped_assumed

TIMING = Timing(shipped_chips().find("Groq TSP"), shipped_assumed())
ROWS, WIDTH = 30, 200


@pytest.mark.parametrize("tiles", [1, 2, 3, 4])
def test_rows_are_normed(tiles: int) -> None:
    rng = np.random.default_rng(tiles)
    hidden = tiles * WIDTH
    y = (rng.normal(size=(ROWS, hidden)) * 3 + 0.5).astype(np.float16)
    gain, offset = (rng.normal(size=hidden).astype(np.float16) for _ in range(2))
    room, planes = Room(TIMING), Planes(TIMING)
    sides = [SIDES[n % 2] for n in range(tiles)]
    given = [
        room.given("y", (n,), "f16", ROWS, side=side, slot=6 + n // 2)
        for n, side in enumerate(sides)
    ]
    tables = [
        [room.table(name, (n,), side=side, slot=slot) for n, side in enumerate(sides)]
        for slot, name in enumerate(("gain", "offset"))
    ]
    out = [
        (
            room.rows("f16", ROWS, side=side, slot=4 + n // 2),
            room.rows("int8", ROWS, side="west", slot=n),
        )
        for n, side in enumerate(sides)
    ]
    norm = Norm(tables[0], tables[1], 16.0)
    norm.add(planes, room, [given], ones(room), [out], part="")
    planes.run()
    program = Program(1, (planes.routine("norm"),), (Step(0, (0,), 0),))
    assert check(program, TIMING) == []
    simulator = Simulator(program, TIMING)
    for piece in room.pieces:
        whole = {"y": y, "gain": gain[None], "offset": offset[None]}.get(piece.what)
        if whole is None:
            words = tile_words(np.full((WIDTH, 4), 1 / hidden), "f16", TIMING.lanes)
        else:
            n = piece.part[0]
            words = row_words(whole[:, n * WIDTH : (n + 1) * WIDTH], "f16", TIMING.lanes)
        simulator.poke(0, piece.side, piece.slices, piece.address, words)
    simulator.run()
    wide = y.astype(np.float64)
    want = (wide - wide.mean(1, keepdims=True)) / wide.std(1, keepdims=True) * gain + offset
    for n, pair in enumerate(out):
        own = slice(n * WIDTH, (n + 1) * WIDTH)
        whole, short = (
            rows_of(simulator.peek(0, t.side, t.slices, t.address, t.count), t.number)[:, :WIDTH]
            for t in pair
        )
        np.testing.assert_allclose(whole, want[:, own], atol=0.01)
        held = np.clip(np.rint(whole.astype(np.float64) * 16), -128, 127)
        assert (short == held).all()
