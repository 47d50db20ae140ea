"""Products of many rows are right, free of conflicts, and near the peak."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from atoll.domain.errors import BadRequest
from atoll.lpu.check.programs import check
from atoll.lpu.compiler.rows.dense import Dense, Epilogue, compile_dense
from atoll.lpu.compiler.rows.words import row_words, rows_of, tile_words
from atoll.lpu.machine import shipped_chips
from atoll.lpu.program import Number, Program, Step
from atoll.lpu.simulator.simulator import Simulator
from atoll.lpu.timing import Timing, shipped_assumed

Array = NDArray[Any]
TIMING = Timing(shipped_chips().find("Groq TSP"), shipped_assumed())


def gelu(x: Array) -> Array:
    """As published, in f64."""
    found: Array = x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return found


def run(dense: Dense, epilogue: Epilogue, number: Number, arrays: dict[str, Array]) -> Array:
    """A compiled product on data."""
    program = Program(1, (dense.routine,), (Step(0, (0,), 0),))
    assert check(program, TIMING) == []
    simulator = Simulator(program, TIMING)
    lanes, starts = TIMING.lanes, np.cumsum([0, *[block[0].count for block in dense.x]])
    for piece in dense.room.pieces:
        a, b = (*piece.part, 0)[:2]
        whole = arrays[piece.what]
        if piece.what == "weights":
            tile = whole[a * lanes : (a + 1) * lanes, b * lanes : (b + 1) * lanes]
            words = tile_words(tile, number, lanes)
        elif piece.what == "weights bias":
            part = whole[None, a * lanes : (a + 1) * lanes] * epilogue.bias_factor
            words = row_words(part, "f16", lanes)
        else:
            part = whole[starts[a] : starts[a + 1], b * lanes : (b + 1) * lanes]
            words = row_words(part, number if piece.what == "rows" else "f16", lanes)
        simulator.poke(0, piece.side, piece.slices, piece.address, words)
    simulator.run()
    return np.concatenate(
        [
            np.concatenate(
                [
                    rows_of(simulator.peek(0, t.side, t.slices, t.address, t.count), t.number)
                    for t in block
                ],
                axis=1,
            )
            for block in dense.y
        ]
    )


@pytest.mark.parametrize("shape", [(1, 320, 320), (70, 500, 400), (300, 640, 1300)])
def test_sums_of_int8_are_exact(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(shape[0])
    x = rng.integers(-128, 128, shape[:2])
    w = rng.integers(-128, 128, shape[1:])
    epilogue = Epilogue("int32")
    found = run(
        compile_dense(TIMING, shape, "int8", epilogue), epilogue, "int8", {"rows": x, "weights": w}
    )
    assert (found[:, : shape[2]] == x @ w).all()
    assert (found[:, shape[2] :] == 0).all()


@pytest.mark.parametrize("has_gelu", [False, True])
@pytest.mark.parametrize("residual", [False, True])
def test_what_becomes_of_sums(has_gelu: bool, residual: bool) -> None:
    shape, scale, out_scale = (40, 400, 700), 3e-4, 25.0
    rng = np.random.default_rng(5)
    arrays: dict[str, Array] = {
        "rows": rng.integers(-128, 128, shape[:2]),
        "weights": rng.integers(-128, 128, shape[1:]),
        "weights bias": rng.normal(size=shape[2]).astype(np.float16),
        "residual": rng.normal(size=(shape[0], shape[2])).astype(np.float16),
    }
    epilogue = Epilogue("int8", scale, out_scale, bias=True, gelu=has_gelu, residual=residual)
    found = run(compile_dense(TIMING, shape, "int8", epilogue), epilogue, "int8", arrays)
    y = (arrays["rows"] @ arrays["weights"]) * scale + arrays["weights bias"].astype(np.float64)
    y = gelu(y) if has_gelu else y
    y = (y + arrays["residual"].astype(np.float64) if residual else y) * out_scale
    want = np.clip(np.rint(y), -128, 127)
    off = found[:, : shape[2]] != want
    # Biases are f16 and sums f32: a few fall on the other side of a half.
    assert off.mean() < 0.02
    assert np.abs(found[:, : shape[2]] - want).max() <= 1


def test_f16() -> None:
    shape = (300, 700, 640)
    rng = np.random.default_rng(6)
    x, w = (rng.normal(size=s).astype(np.float16) for s in (shape[:2], shape[1:]))
    epilogue = Epilogue("f32")
    dense = compile_dense(TIMING, shape, "f16", epilogue)
    found = run(dense, epilogue, "f16", {"rows": x, "weights": w})
    np.testing.assert_allclose(
        found[:, : shape[2]], x.astype(np.float64) @ w.astype(np.float64), atol=1e-3
    )


@pytest.mark.parametrize("number", ["int8", "f16"])
def test_large_products_are_near_the_peak(number: Number) -> None:
    epilogue = Epilogue("int8", 0.01, bias=True)
    dense = compile_dense(TIMING, (1024, 3200, 2560), number, epilogue)
    assert 0.95 < dense.efficiency < 1
    assert check(Program(1, (dense.routine,), (Step(0, (0,), 0),)), TIMING) == []


def test_loads_are_the_bound_of_few_rows() -> None:
    """Twenty cycles of weights of a tile of one plane of a side after another."""
    dense = compile_dense(TIMING, (8, 3200, 3200), "int8", Epilogue("int8", 0.01))
    assert dense.routine.cycles > 100 / 2 * 20


@pytest.mark.parametrize(
    ("shape", "number", "problem"),
    [
        ((0, 320, 320), "int8", "0 rows"),
        ((1, 320, 320), "int32", "int32"),
        ((64, 320 * 55, 320 * 55), "int8", "words are missing"),
    ],
)
def test_products_that_are_none(shape: tuple[int, int, int], number: Number, problem: str) -> None:
    with pytest.raises(BadRequest, match=problem):
        compile_dense(TIMING, shape, number, Epilogue("int8", 0.01))
