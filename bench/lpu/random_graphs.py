"""Random graphs of operators, with weights and inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from atoll.lpu.compiler.graphs.graph import Graph, Node
from atoll.lpu.graph_laying import Weights
from atoll.lpu.laying import Rotation
from atoll.lpu.words import Values

FREE = ("add", "mul", "silu", "gelu", "relu", "exp", "tanh", "slice", "concat")
HEAD_DIMS = (16, 32, 64, 80, 160, 320)


@dataclass(frozen=True)
class Made:
    """A graph with its weights, what it is given, and for which position."""

    graph: Graph
    weights: dict[str, Weights]
    given: dict[str, Values]
    position: int


class _Maker:
    """Nodes one after the other; squares and exponentials of `tame` values are halves."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Node] = []
        self.widths: dict[str, int] = {}
        self.tame: set[str] = set()
        self.weights: dict[str, Weights] = {}
        self.given: dict[str, Values] = {}

    def width(self) -> int:
        """Of all sizes, and often such that vectors are full or nearly so."""
        kind = self.rng.integers(4)
        if kind == 0:
            return int(self.rng.integers(1, 330))
        if kind == 1:
            return int(320 * self.rng.integers(1, 8) + self.rng.integers(-1, 2))
        return int(self.rng.integers(1, 2600))

    def any(self, names: list[str]) -> str:
        return names[int(self.rng.integers(len(names)))]

    def add(self, op: str, inputs: tuple[str, ...], wide: int, tame: bool, **more: object) -> str:
        name = f"{op}{len(self.nodes)}"
        number = "f32" if self.rng.random() < 0.4 else "f16"
        self.nodes.append(Node(name=name, op=op, inputs=inputs, number=number, **more))  # type: ignore[arg-type]
        self.widths[name] = wide
        if tame:
            self.tame.add(name)
        return name

    def input(self, width: int) -> str:
        name = self.add("input", (), width, True, width=width)
        held = np.float16 if self.nodes[-1].number == "f16" else np.float32
        self.given[name] = self.rng.standard_normal(width).astype(held).astype(np.float32)
        return name

    def matrix(self, outs: int, ins: int) -> Values:
        found = self.rng.standard_normal((outs, ins)) / np.sqrt(ins)
        return np.asarray(found, np.float32)

    def product(self, x: str) -> str:
        width, tame = self.width(), x in self.tame
        stored = "int8" if self.rng.random() < 0.4 else "f16"
        gated = tame and self.rng.random() < 0.3
        op = "gated" if gated else "product"
        name = self.add(op, (x,), width, tame and not gated, width=width, stored=stored)
        matrix = self.matrix(width, self.widths[x])
        up = self.matrix(width, self.widths[x]) if gated else None
        self.weights[name] = Weights(matrix=matrix, up=up)
        return name

    def norm(self, x: str) -> str:
        name = self.add("norm", (x,), self.widths[x], False)
        weight = 1 + 0.1 * self.rng.standard_normal(self.widths[x])
        self.weights[name] = Weights(norm=np.asarray(weight, np.float32))
        return name

    def rotate(self, x: str) -> str | None:
        width = self.widths[x]
        dims = [d for d in HEAD_DIMS if width % d == 0]
        if not dims:
            return None
        dim = dims[int(self.rng.integers(len(dims)))]
        half = bool(self.rng.integers(2))
        tame = x in self.tame
        more = {"head_dim": dim, "positions": 40, "half": half}
        name = self.add("rotate", (x,), width, tame, **more)
        self.weights[name] = Weights(rotation=Rotation(dim, 10_000.0))
        return name

    def free(self) -> str | None:
        """An operator without weights on what is there."""
        op = self.any(list(FREE))
        x = self.any(list(self.widths))
        width, tame = self.widths[x], x in self.tame
        if op == "slice":
            size = int(self.rng.integers(1, width + 1))
            first = int(self.rng.integers(0, width - size + 1))
            return self.add(op, (x,), size, tame, width=size, first=first)
        if op == "concat":
            y = self.any(list(self.widths))
            both = width + self.widths[y]
            is_tame = tame and y in self.tame
            return self.add(op, (x, y), both, is_tame) if both < 4000 else None
        if op in ("add", "mul"):
            y = self.any([n for n, w in self.widths.items() if w == width])
            if op == "mul" and not (tame and y in self.tame):
                return None
            return self.add(op, (x, y), width, op == "add" and tame and y in self.tame)
        if op == "exp" and not tame:
            return None
        return self.add(op, (x,), width, op == "tanh" or (tame and op != "exp"))


def random_graph(seed: int, nodes: int = 12) -> Made:
    """A graph of about so many operators, whose values stay within what halves can hold."""
    maker = _Maker(seed)
    for _ in range(int(maker.rng.integers(1, 4))):
        maker.input(maker.width())
    while len(maker.nodes) < nodes:
        x = maker.any(list(maker.widths))
        kind = maker.rng.random()
        if kind < 0.15:
            maker.product(x)
        elif kind < 0.3:
            maker.norm(x)
        elif kind < 0.4:
            maker.add("softmax", (x,), maker.widths[x], False)
        elif kind < 0.5:
            maker.rotate(x)
        else:
            maker.free()
    used = {name for node in maker.nodes for name in node.inputs}
    outputs = tuple(node.name for node in maker.nodes if node.name not in used)
    # In any order: what each needs is for the compiler to see.
    order = maker.rng.permutation(len(maker.nodes))
    graph = Graph(tuple(maker.nodes[i] for i in order), outputs)
    return Made(graph, maker.weights, maker.given, int(maker.rng.integers(40)))
