"""Graphs of operators on a simulated chip, against NumPy; none has a conflict."""

from __future__ import annotations

import numpy as np
import pytest
from bench.lpu.random_graphs import Made, random_graph
from tests.support.lpu_graphs import computed, expected
from tests.support.lpu_small import timing_of

from atoll.domain.errors import BadRequest
from atoll.lpu.check.programs import check
from atoll.lpu.compiler.chips.layout import digest
from atoll.lpu.compiler.graphs.graph import Graph, Node
from atoll.lpu.compiler.graphs.operators import PLACES, compile_graph

TIMING = timing_of()


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs_have_no_conflicts_and_are_right(seed: int) -> None:
    made = random_graph(seed)
    compiled = compile_graph(TIMING, made.graph)
    assert check(compiled.program, TIMING) == []
    due = expected(made, compiled)
    for name, found in computed(made, compiled, TIMING).items():
        greatest = np.abs(due[name]).max()
        assert np.abs(found - due[name]).max() <= 0.01 * max(greatest, 1e-6), f"{name}, seed {seed}"


def test_the_same_graph_gives_the_same_schedule() -> None:
    graph = random_graph(5).graph
    assert digest(compile_graph(TIMING, graph).program) == digest(
        compile_graph(TIMING, graph).program
    )


def test_values_that_nothing_ties_are_made_at_once() -> None:
    """Two products of different values take hardly longer than the longer one."""

    def cycles(*products: int) -> int:
        nodes = [Node(name="x", op="input", width=640)]
        for n in products:
            nodes.append(Node(name=f"y{n}", op="product", inputs=("x",), width=320))
            nodes.append(Node(name=f"z{n}", op="softmax", inputs=(f"y{n}",)))
        outputs = tuple(f"z{n}" for n in products)
        return compile_graph(TIMING, Graph(tuple(nodes), outputs)).routine.cycles

    assert cycles(0) < cycles(0, 1) < 1.3 * cycles(0)


def test_the_same_value_twice_is_read_once() -> None:
    x = Node(name="x", op="input", width=700, number="f32")
    square = Node(name="y", op="mul", inputs=("x", "x"), number="f32")
    values = np.linspace(-3, 3, 700, dtype=np.float32)
    made = Made(Graph((x, square), ("y", "x")), {}, {"x": values}, 0)
    compiled = compile_graph(TIMING, made.graph)
    found = computed(made, compiled, TIMING)
    assert np.array_equal(found["y"], values * values)
    assert np.array_equal(found["x"], values)


def test_tables_that_are_read_together_lie_apart() -> None:
    held = [(side, s) for side, first in PLACES.values() for s in (first, first + 1)]
    assert len(set(held)) == len(held)


def test_what_does_not_fit() -> None:
    x = Node(name="x", op="input", width=30000)
    y = Node(name="y", op="product", inputs=("x",), width=30000)
    with pytest.raises(BadRequest, match="does not fit"):
        compile_graph(TIMING, Graph((x, y), ("y",)))
