"""Products of a vector with matrices of any size, and chips that do alike."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.lpu_rig import LANES, Rig, vectors

from atoll.lpu.compiler.decoder.sums import stored
from atoll.lpu.compiler.memory import Stored
from atoll.lpu.program import Multiply, Receive, Send


@pytest.mark.parametrize(("rows", "columns"), [(320, 320), (700, 960), (50, 30), (641, 700)])
@pytest.mark.parametrize("kept", ["f16", "int8"])
def test_a_product_is_numpys(rows: int, columns: int, kept: Stored) -> None:
    rng = np.random.default_rng(rows)
    rig = Rig(stored=kept)
    x = rng.integers(-8, 8, rows).astype(np.float64)
    weights = rng.integers(-100, 100, (rows, columns)).astype(np.float64)
    scales = rng.random(columns) if kept == "int8" else None
    matrix = rig.matrix(weights, scales)
    into = rig.memory.scratch("f32", matrix.width)
    rig.builder.product(rig.put(vectors(x), "f16"), matrix, stored(matrix, into))
    rig.run()
    wanted = x @ weights * (1 if scales is None else scales)
    assert np.allclose(rig.get(into).reshape(-1)[:columns], wanted, rtol=1e-6)


def test_a_long_product_takes_little_more_than_its_weights() -> None:
    """Widened weights need 20 cycles of the vector unit a tile, halves 20 of a side's streams."""
    tiles = 8 * 6
    for kept, limit in (("int8", 20 * tiles), ("f16", 10 * tiles)):
        rig = Rig(stored=kept)  # type: ignore[arg-type]
        matrix = rig.matrix(np.zeros((8 * LANES, 6 * LANES)), None)
        into = rig.memory.scratch("f32", 6)
        x = rig.put(np.zeros((8, LANES)), "f16")
        rig.builder.product(x, matrix, stored(matrix, into))
        ends = max(i.result_at for i in rig.builder.instructions if isinstance(i, Multiply))
        assert limit < ends < 1.1 * limit + 150


def test_chips_that_do_alike_send_as_far_on_as_they_receive_from_back() -> None:
    rig = Rig(chips=3)
    matrix = rig.matrix(np.zeros((LANES, 2 * LANES)), None)
    into = rig.memory.scratch("f32", 2)
    rig.builder.product(rig.put(np.zeros((1, LANES)), "f16"), matrix, stored(matrix, into))
    chain = rig.builder.chain()
    flow = chain.read(into.byte(0), way="out").flow
    arrives = chain.exchange(flow, chain.streams(flow.side, "in", 1), at=0, on=2)
    kept = rig.memory.scratch("f32", 1, flow.side)
    inward = chain.instructions[-1].flow  # type: ignore[union-attr]
    chain.write(kept.byte(0), inward, at=arrives)
    rig.builder.place(chain)
    routine = rig.builder.routine("r")
    sends = [[i.to for i in chip if isinstance(i, Send)] for chip in routine.chips]
    receives = [[i.source for i in chip if isinstance(i, Receive)] for chip in routine.chips]
    assert sends == [[2], [0], [1]]
    assert receives == [[1], [2], [0]]
