"""Attention by itself: what softmax gives, also where scores are clamped or far below."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.support.lpu_encoders import Model, lay, model

from atoll.lpu.check.programs import check
from atoll.lpu.compiler.encoder.attention import Attention
from atoll.lpu.compiler.encoder.layer import factors
from atoll.lpu.compiler.encoder.shape import Shape
from atoll.lpu.compiler.rows.planes import Planes
from atoll.lpu.compiler.rows.room import Room
from atoll.lpu.compiler.rows.words import rows_of
from atoll.lpu.machine import shipped_chips
from atoll.lpu.program import SIDES, Program, Step
from atoll.lpu.simulator.simulator import Simulator
from atoll.lpu.timing import Timing, shipped_assumed

TIMING = Timing(shipped_chips().find("Groq TSP"), shipped_assumed())


@pytest.mark.parametrize("heads", [1, 2, 4, 6])
@pytest.mark.parametrize("larger", [1, 8])
def test_outputs_of_heads(heads: int, larger: int) -> None:
    """Scores of up to some 4, and of up to some 30, of which those above 11 are clamped."""
    shape = Shape(TIMING, 64 * heads, heads, 320, 48)
    found = model(shape, 4).layer
    scales = found.scales
    scales = replace(
        scales, query=scales.query * larger, query_weights=scales.query_weights * larger
    )
    layer = Model(replace(found, scales=scales))
    x = np.random.default_rng(5).integers(-100, 101, (shape.rows, shape.hidden))
    room, planes = Room(TIMING), Planes(TIMING)
    given = [
        [
            room.given("x", (b, k), "int8", shape.block, side=SIDES[b % 2], slot=k)
            for k in range(shape.tiles)
        ]
        for b in range(len(shape.blocks))
    ]
    out = Attention(planes, room, shape, factors(shape, scales), given).add()
    planes.run()
    program = Program(1, (planes.routine("attention"),), (Step(0, (0,), 0),))
    assert check(program, TIMING) == []
    simulator = Simulator(program, TIMING)
    lay(simulator, room, layer, x, x)
    simulator.run()
    want = layer.attention(x)
    given_out = np.concatenate(
        [rows_of(simulator.peek(0, t.side, t.slices, t.address, t.count), "int8") for t in out[0]],
        axis=1,
    )
    order = np.arange(shape.group * shape.head).reshape(shape.group, shape.head).T.ravel()
    for j in range(shape.tiles):
        tile = given_out[:, j * 320 : j * 320 + len(order)]
        off = np.abs(tile - want[:, j * len(order) : (j + 1) * len(order)][:, order])
        # Rows are exact but where a number of Q or K lies at a half and falls to its other side.
        assert (off.max(axis=1) == 0).mean() > 0.7
        assert off.max() <= 4
    assert np.abs(want).max() > 20
