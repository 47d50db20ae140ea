"""Graphs of operators on a simulated chip, and what NumPy makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from bench.lpu.random_graphs import Made
from numpy.typing import NDArray

from atoll.lpu.check.programs import check
from atoll.lpu.compiler.graphs.elementwise import GELU
from atoll.lpu.compiler.graphs.graph import Graph, Held, Node
from atoll.lpu.compiler.graphs.operators import CompiledGraph, compile_graph
from atoll.lpu.graph_laying import GraphLaying, Weights
from atoll.lpu.program import NUMBER_BYTES
from atoll.lpu.simulator.simulator import Simulator
from atoll.lpu.timing import Timing
from atoll.lpu.words import Values, scales_of, value_of, value_words

Doubles = NDArray[np.float64]


def computed(made: Made, compiled: CompiledGraph, timing: Timing) -> dict[str, Values]:
    """What the schedule makes of it, by output."""
    laying = GraphLaying(compiled, made.weights, lanes=timing.lanes)
    simulator = Simulator(compiled.program, timing, laying.block)
    for name, tensor in compiled.inputs.items():
        words = value_words(made.given[name], _held(tensor.slices), timing.lanes)
        simulator.poke(0, tensor.side, tensor.slices, tensor.address, words)
    simulator.run({"position": made.position})
    found = {}
    for name, t in compiled.outputs.items():
        words = simulator.peek(0, t.side, t.slices, t.address, t.count)
        found[name] = value_of(words, _held(t.slices), compiled.widths[name])
    return found


def _held(slices: tuple[int, ...]) -> Held:
    return "f16" if len(slices) == NUMBER_BYTES["f16"] else "f32"


def run(
    timing: Timing,
    nodes: Sequence[Node],
    given: dict[str, Values],
    weights: dict[str, Weights] | None = None,
    position: int = 0,
) -> Values:
    """What the last of some nodes gives; the schedule has no conflict."""
    made = Made(Graph(tuple(nodes), (nodes[-1].name,)), weights or {}, given, position)
    compiled = compile_graph(timing, made.graph)
    assert check(compiled.program, timing) == []
    return computed(made, compiled, timing)[nodes[-1].name]


def expected(made: Made, compiled: CompiledGraph) -> dict[str, Doubles]:
    """The same in f64, each value rounded to its format."""
    found: dict[str, Doubles] = {}
    for node in compiled.nodes:
        value = _value(node, found, made)
        if node.number == "f16":
            value = value.astype(np.float16).astype(np.float64)
        found[node.name] = value
    return {name: found[name] for name in compiled.outputs}


def _value(node: Node, found: Mapping[str, Doubles], made: Made) -> Doubles:
    own = made.weights.get(node.origin)
    x = found[node.inputs[0]] if node.inputs else np.zeros(0)
    if node.op == "input":
        return made.given[node.name].astype(np.float64)
    if node.op in ("product", "gated"):
        assert own is not None
        assert own.matrix is not None
        sums = _matrix(own.matrix, node) @ x
        if node.op == "product":
            return np.asarray(sums)
        assert own.up is not None
        return np.asarray(sums / (1 + np.exp(-sums)) * (_matrix(own.up, node) @ x))
    if node.op == "norm":
        assert own is not None
        assert own.norm is not None
        weight = own.norm.astype(np.float16)
        return np.asarray(x / np.sqrt(np.mean(x * x) + node.eps) * weight)
    if node.op == "softmax":
        share = np.exp(x - x.max())
        return np.asarray(share / share.sum())
    if node.op == "rotate":
        return _rotated(x, node, made.position)
    if node.op == "slice":
        return x[node.first : node.first + node.width]
    if node.op == "concat":
        return np.concatenate([x, found[node.inputs[1]]])
    return _elementwise(node.op, x, found[node.inputs[-1]])


def _elementwise(op: str, x: Doubles, y: Doubles) -> Doubles:
    a, b = GELU
    made: dict[str, Callable[[], Doubles]] = {
        "add": lambda: x + y,
        "mul": lambda: x * y,
        "silu": lambda: x / (1 + np.exp(-x)),
        "gelu": lambda: x / 2 * (1 + np.tanh(a * (x + b * x**3))),
        "relu": lambda: np.maximum(x, 0),
        "exp": lambda: np.exp(x),
        "tanh": lambda: np.tanh(x),
        "cast": lambda: x,
    }
    return np.asarray(made[op]())


def _matrix(matrix: Values, node: Node) -> Doubles:
    if node.stored == "f16":
        return matrix.astype(np.float16).astype(np.float64)
    scales = scales_of(np.ascontiguousarray(matrix.T)).astype(np.float64)
    return np.asarray(np.rint(matrix / scales[:, None].astype(np.float32)) * scales[:, None])


def _rotated(x: Doubles, node: Node, position: int) -> Doubles:
    dim = node.head_dim
    heads = x.reshape(-1, dim)
    angle = position * 10_000.0 ** (-2.0 * np.arange(dim // 2) / dim)
    halves = (slice(0, dim // 2), slice(dim // 2, dim))
    first, second = halves if node.half else (slice(0, dim, 2), slice(1, dim, 2))
    turned = heads.copy()
    turned[:, first] = heads[:, first] * np.cos(angle) - heads[:, second] * np.sin(angle)
    turned[:, second] = heads[:, second] * np.cos(angle) + heads[:, first] * np.sin(angle)
    return turned.reshape(-1)
