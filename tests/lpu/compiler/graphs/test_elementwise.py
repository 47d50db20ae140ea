"""Passes lane by lane, whatever slices their operands lie in."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.lpu_graphs import run
from tests.support.lpu_small import timing_of

from atoll.lpu.check.programs import check_routine
from atoll.lpu.compiler.builder import Builder
from atoll.lpu.compiler.chain import Tensor
from atoll.lpu.compiler.graphs.elementwise import FUNCTIONS, Source, elementwise
from atoll.lpu.compiler.graphs.graph import Node
from atoll.lpu.compiler.memory import Memory
from atoll.lpu.program import Read

TIMING = timing_of()


def builder() -> Builder:
    return Builder(TIMING, Memory(TIMING, "f16"))


def test_operands_that_lie_in_the_same_slices_are_copied() -> None:
    made = builder()
    slices = (8, 9, 10, 11)
    x, y = (Tensor("f32", "west", slices, address, 40, [0] * 40) for address in (0, 40))
    z = Tensor("f16", "west", slices[1:3], 80, 1, [0])
    sources = [Source(x), Source(y), Source(z, step=0)]
    into = elementwise(made, sources, lambda f: f.do("mul", f.do("add", 0, 1), 2), "f16", count=40)
    assert (into.side, into.slices) != ("west", slices)
    assert len([i for i in made.instructions if isinstance(i, Read)]) == 3 + 2
    assert check_routine(made.routine("sum"), TIMING) == []


def test_operands_apart_are_read_where_they_are() -> None:
    made = builder()
    sources = [Source(made.memory.scratch("f32", 9)) for _ in range(3)]
    elementwise(made, sources, lambda f: f.do("max", f.do("max", 0, 1), 2), "f32", count=9)
    assert len([i for i in made.instructions if isinstance(i, Read)]) == 3


@pytest.mark.parametrize("op", FUNCTIONS)
def test_functions(op: str) -> None:
    values = np.linspace(-5, 5, 500, dtype=np.float32)
    x = Node(name="x", op="input", width=500, number="f32")
    found = run(TIMING, (x, Node(name="y", op=op, inputs=("x",), number="f32")), {"x": values})
    wide = values.astype(np.float64)
    gate = np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3))
    due = {
        "silu": wide / (1 + np.exp(-wide)),
        "gelu": wide / 2 * (1 + gate),
        "relu": np.maximum(wide, 0),
        "exp": np.exp(wide),
        "tanh": np.tanh(wide),
    }[op]
    assert np.abs(found - due).max() < 1e-5 * np.abs(due).max()
