"""A graph of plain operators, compiled for one chip.

Its passes (`graph.py`) make of it nodes in order, with their widths and formats. Then each node
gets its place in memory and in time, one after the other: what it needs begins in the first cycle
in which its parts are free and what it takes is there, so that nodes that do not need each other
run at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from atoll.lpu.compiler.builder import Builder, Matrix, make_matrix
from atoll.lpu.compiler.chain import Tensor
from atoll.lpu.compiler.decoder.attention import Turns, rotate
from atoll.lpu.compiler.decoder.feed_forward import gated
from atoll.lpu.compiler.decoder.norm import Ones, rms_norm
from atoll.lpu.compiler.decoder.sums import stored
from atoll.lpu.compiler.graphs.elementwise import FUNCTIONS, Formula, Source, elementwise
from atoll.lpu.compiler.graphs.graph import (
    Graph,
    Node,
    checked,
    columns,
    formatted,
    ordered,
    widths,
)
from atoll.lpu.compiler.graphs.shifts import Halves, behind, part
from atoll.lpu.compiler.graphs.softmax import softmax
from atoll.lpu.compiler.memory import Memory, Piece
from atoll.lpu.program import SIDES, Block, Program, Routine, Side, Step
from atoll.lpu.timing import Timing

BINARY = ("add", "mul")
PLACES: dict[str, tuple[Side, int]] = {
    "cosine": ("west", 0),
    "after": ("west", 2),
    "before lane": ("west", 4),
    "after lane": ("west", 6),
    "before": ("east", 0),
    "norm": ("west", 32),
    "lanes": ("west", 34),
    "low": ("west", 36),
}
"""Where tables lie, from which slice on: outside of scratch, and apart from those with which they
are read.
"""


@dataclass(frozen=True, slots=True)
class CompiledGraph:
    """A routine of one chip, and what lies in its memory.

    Attributes:
        nodes: In order, with conversions.
        widths: Values of each node's vector.
        pieces: What is to be laid into memory: `what` is "ones", a table of a width or a lane, or
            a node's name behind what it is of the node.
        inputs: Where what is given lies, by name.
        outputs: Where what is wanted lies, by name.
    """

    nodes: tuple[Node, ...]
    widths: dict[str, int]
    routine: Routine
    pieces: tuple[Piece, ...]
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]

    @property
    def program(self) -> Program:
        """The routine run once; block n's tensor is the number of a piece."""
        blocks = tuple(
            Block(0, piece.side, piece.slices, piece.address, piece.words, str(n))
            for n, piece in enumerate(self.pieces)
        )
        return Program(1, (self.routine,), (Step(0, (0,), 0),), blocks)


def compile_graph(timing: Timing, graph: Graph, name: str = "graph") -> CompiledGraph:
    """A routine that computes what is wanted.

    Args:
        timing: Of the chip.
        graph: Operators.
        name: Of the routine.

    Raises:
        BadRequest: An operator is not covered, shapes do not go together, nodes wait for each
            other, nothing is to be done, or it does not fit into a chip's memory.
    """
    nodes = formatted(ordered(checked(graph)))
    wide = widths(nodes, timing.lanes)
    placing = _Placing(timing, wide)
    for node in nodes:
        placing.place(node)
    return CompiledGraph(
        nodes,
        wide,
        placing.builder.routine(name),
        tuple(placing.memory.pieces),
        {node.name: placing.values[node.name] for node in nodes if node.op == "input"},
        {output: placing.values[output] for output in graph.outputs},
    )


class _Placing:
    """Values placed so far, and tables that nodes share."""

    def __init__(self, timing: Timing, wide: dict[str, int]) -> None:
        self.timing = timing
        self.widths = wide
        self.memory = Memory(timing, "f16")
        self.builder = Builder(timing, self.memory)
        self.values: dict[str, Tensor] = {}
        self._tables: dict[tuple[str, int], Tensor] = {}
        self._ones: Ones | None = None
        self._emit: dict[str, Callable[[Node], Tensor]] = {
            "input": self._input,
            "product": self._product,
            "gated": self._gated,
            "norm": self._norm,
            "softmax": self._softmax,
            "rotate": self._rotate,
            "slice": self._slice,
            "concat": self._concat,
        }

    def place(self, node: Node) -> None:
        """Everything that a node does."""
        self.values[node.name] = self._emit.get(node.op, self._elementwise)(node)

    def _vectors(self, width: int) -> int:
        return -(-width // self.timing.lanes)

    def _input(self, node: Node) -> Tensor:
        found = self.memory.scratch(node.number, self._vectors(node.width))
        found.there = [0] * found.count
        return found

    def _product(self, node: Node) -> Tensor:
        x = self.values[node.inputs[0]]
        matrix = self._matrix(node, columns(node.width, self.timing.lanes), x.count)
        into = self.memory.scratch(node.number, matrix.width, apart=[x])
        self.builder.product(x, matrix, stored(matrix, into))
        return into

    def _gated(self, node: Node) -> Tensor:
        x = self.values[node.inputs[0]]
        both = [w for w in columns(node.width, self.timing.lanes) for _ in SIDES]
        return gated(self.builder, x, self._matrix(node, both, x.count))

    def _matrix(self, node: Node, wide: list[int], depth: int) -> Matrix:
        return make_matrix(self.memory, f"matrix {node.name}", wide, depth, node.stored)

    def _norm(self, node: Node) -> Tensor:
        x = self.values[node.inputs[0]]
        weight = self._own("norm", node, x.count)
        hidden = self.widths[node.name]
        return rms_norm(self.builder, x, weight, self.ones, hidden=hidden, eps=node.eps)

    def _softmax(self, node: Node) -> Tensor:
        x, width = self.values[node.inputs[0]], self.widths[node.name]
        low = self._table("low", width, x.count) if width % self.timing.lanes else None
        return softmax(self.builder, x, low, self.ones, node.number)

    def _rotate(self, node: Node) -> Tensor:
        tables = [self._own(of, node, node.positions) for of in ("cosine", "after", "before")]
        for table in tables:
            table.index = "position"
        x = self.values[node.inputs[0]]
        shift = node.head_dim // 2 if node.half else 1
        return rotate(self.builder, x, Turns(*tables), shift, (), count=x.count)[0]

    def _slice(self, node: Node) -> Tensor:
        x, lanes = self.values[node.inputs[0]], self.timing.lanes
        return part(
            *(self.builder, x, node.first, self._vectors(node.width)),
            halves=self._halves(-node.first % lanes),
            edge=self._edge(node.width),
            number=node.number,
        )

    def _concat(self, node: Node) -> Tensor:
        x, y = (self.values[name] for name in node.inputs)
        halves = self._halves(self.widths[node.inputs[0]] % self.timing.lanes)
        count = self._vectors(self.widths[node.name])
        return behind(self.builder, x, y, count, halves=halves, number=node.number)

    def _elementwise(self, node: Node) -> Tensor:
        # What is taken twice is read once.
        names = list(dict.fromkeys(node.inputs))
        sources = [Source(self.values[name]) for name in names]
        arguments = [names.index(name) for name in node.inputs]
        # Lanes beyond the end are to stay zeros.
        edge = self._edge(self.widths[node.name]) if node.op == "exp" else None
        if edge:
            sources.append(Source(edge))

        def make(formula: Formula) -> int:
            if node.op == "cast":
                return 0
            if node.op in BINARY:
                return formula.do("add" if node.op == "add" else "mul", *arguments)
            value = FUNCTIONS[node.op](formula, 0)
            return formula.do("mul", value, 1) if edge else value

        count = sources[0].tensor.count
        return elementwise(self.builder, sources, make, node.number, count=count)

    # Tables

    @property
    def ones(self) -> Ones:
        """Tiles of ones, if any node needs them."""
        if self._ones is None:
            lanes = self.timing.lanes
            tiles = [
                self.memory.tile("ones", (), lanes, side=side, stored="f16", local=False)
                for side in SIDES
            ]
            self._ones = Ones(*tiles)
        return self._ones

    def _edge(self, width: int) -> Tensor | None:
        """1 in lanes where a value of that width is; None if it fills its vectors."""
        if width % self.timing.lanes == 0:
            return None
        return self._table("lanes", width, self._vectors(width))

    def _halves(self, lane: int) -> Halves | None:
        if not lane:
            return None
        before, after = (self._table(f"{of} lane", lane, 1) for of in ("before", "after"))
        return Halves(lane, before, after)

    def _table(self, what: str, of: int, count: int) -> Tensor:
        """A table of a width or a lane, for all nodes that need it."""
        if (what, of) not in self._tables:
            side, first = PLACES[what]
            found = self.memory.table(what, "f16", count, side=side, first=first, part=(of,))
            self._tables[what, of] = found
        return self._tables[what, of]

    def _own(self, what: str, node: Node, count: int) -> Tensor:
        side, first = PLACES[what]
        return self.memory.table(f"{what} {node.name}", "f16", count, side=side, first=first)
