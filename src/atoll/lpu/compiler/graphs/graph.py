"""Plain operators as a graph, and what is made of it before anything is placed.

A value is a vector: of f16 or f32, of some width, in as many vectors of 320 lanes as it fills;
lanes beyond its end are zeros. Passes, each from nodes to nodes:

1. `checked`: every node is a covered operator of values that are there.
2. `ordered`: what is needed for the outputs, each after what it takes.
3. `widths`: how wide each value is.
4. `formatted`: conversions where an operator takes or gives another format.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from atoll.domain.errors import BadRequest
from atoll.lpu.compiler.memory import Stored

Held = Literal["f16", "f32"]
"""How a value lies in memory; the vector unit computes in f32 either way."""
WIDTH_MAX = 1 << 15
NAME = re.compile(r"[^\s:]+")


@dataclass(frozen=True, slots=True)
class Operator:
    """What an operator takes and gives.

    Attributes:
        inputs: How many values.
        same: They are of one width, which is that of the result.
        takes: Their format; None: any.
        gives: Its result's; None: any.
        sized: Nodes say how wide the result is.
    """

    inputs: int
    same: bool = True
    takes: Held | None = None
    gives: Held | None = None
    sized: bool = False


OPERATORS: dict[str, Operator] = {
    "input": Operator(0, sized=True),
    "product": Operator(1, same=False, takes="f16", sized=True),
    "gated": Operator(1, same=False, takes="f16", gives="f16", sized=True),
    "norm": Operator(1, takes="f32", gives="f16"),
    "softmax": Operator(1),
    "rotate": Operator(1, takes="f16", gives="f16"),
    "add": Operator(2),
    "mul": Operator(2),
    "silu": Operator(1),
    "gelu": Operator(1),
    "relu": Operator(1),
    "exp": Operator(1),
    "tanh": Operator(1),
    "cast": Operator(1),
    "slice": Operator(1, same=False, sized=True),
    "concat": Operator(2, same=False),
}
"""By name. `product`: a matrix of shape (width, width of the input) times the input. `gated`:
silu(gate x) * (up x), of two such matrices. `norm`: root mean square norm with weights. `rotate`:
heads beside each other, by the position that is given as an index when the program runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """An operator and the value that it gives.

    Attributes:
        name: Of both.
        op: One of `OPERATORS`.
        inputs: Names of what it takes.
        number: Format of its value.
        width: Of an input, a product, a gated pair of them or a slice: values that come out.
        stored: Of a product: how its matrix lies in memory.
        eps: Of a norm: added to the mean square.
        first: Of a slice: where it begins.
        head_dim: Of a rotation: values of a head.
        positions: Of a rotation: for how many there are tables.
        half: Of a rotation: turns the two halves of a head, not neighbours.
    """

    name: str
    op: str
    inputs: tuple[str, ...] = ()
    number: Held = "f16"
    width: int = 0
    stored: Stored = "f16"
    eps: float = 1e-5
    first: int = 0
    head_dim: int = 0
    positions: int = 0
    half: bool = False

    @property
    def origin(self) -> str:
        """The node of the graph from which it was made."""
        return self.name.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in any order, and names of the values that are wanted."""

    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]


def checked(graph: Graph) -> Graph:
    """The same graph.

    Raises:
        BadRequest: A node is none that is covered, or takes what is not there; or nothing is
            wanted.
    """
    names = [node.name for node in graph.nodes]
    if not graph.outputs:
        raise BadRequest("a graph without outputs", hint="name the values that are wanted")
    for node in graph.nodes:
        if node.op not in OPERATORS:
            raise BadRequest(
                f"{node.name}: no operator {node.op!r} is compiled",
                hint=f"those that are: {', '.join(OPERATORS)}",
            )
        if names.count(node.name) > 1 or not NAME.fullmatch(node.name):
            raise BadRequest(
                f"a node is called {node.name!r}",
                hint="other names, no space or colon",
            )
        wanted = OPERATORS[node.op].inputs
        if len(node.inputs) != wanted:
            raise BadRequest(
                f"{node.name}: {node.op} of {len(node.inputs)} values and not {wanted}"
            )
        if node.number not in ("f16", "f32") or node.stored not in ("f16", "int8"):
            raise BadRequest(
                f"{node.name}: values of {node.number}, a matrix of {node.stored}",
                hint="values of f16 or f32, matrices of f16 or int8",
            )
        if OPERATORS[node.op].sized and not 1 <= node.width <= WIDTH_MAX:
            raise BadRequest(
                f"{node.name}: a width of {node.width}", hint=f"1 to {WIDTH_MAX} values"
            )
        if not node.eps > 0:
            raise BadRequest(f"{node.name}: eps of {node.eps}", hint="a number above 0")
    for user, name in [(n.name, i) for n in graph.nodes for i in n.inputs] + [
        ("the outputs", name) for name in graph.outputs
    ]:
        if name not in names:
            raise BadRequest(f"{user}: there is no value {name}")
    return graph


def ordered(graph: Graph) -> tuple[Node, ...]:
    """Nodes that the outputs need, and all inputs: those first that have the fewest others before
    them, so that what can run at once is placed before what must wait; else as they came.

    Raises:
        BadRequest: Nodes wait for each other.
    """
    nodes = {node.name: node for node in graph.nodes}
    needed: set[str] = {node.name for node in graph.nodes if node.op == "input"}
    left = list(graph.outputs)
    while left:
        name = left.pop()
        if name not in needed:
            needed.add(name)
            left += nodes[name].inputs
    waiting = [node for node in graph.nodes if node.name in needed]
    found: dict[str, Node] = {}
    while waiting:
        ready = [node for node in waiting if all(name in found for name in node.inputs)]
        if not ready:
            names = ", ".join(node.name for node in waiting)
            raise BadRequest(f"values wait for each other: {names}", hint="a graph without cycles")
        found |= {node.name: node for node in ready}
        waiting = [node for node in waiting if node.name not in found]
    return tuple(found.values())


def widths(nodes: Sequence[Node], lanes: int) -> dict[str, int]:
    """Values of each node's vector.

    Args:
        nodes: In order.
        lanes: Of a chip.

    Raises:
        BadRequest: Shapes do not go together.
    """
    found: dict[str, int] = {}
    for node in nodes:
        wide = [found[name] for name in node.inputs]
        operator = OPERATORS[node.op]
        if operator.same and len(set(wide)) > 1:
            raise BadRequest(
                f"{node.name}: {node.op} of {wide[0]} and {wide[1]} values",
                hint="values of the same width",
            )
        if node.op == "slice" and not 0 <= node.first <= wide[0] - node.width:
            end = node.first + node.width - 1
            raise BadRequest(f"{node.name}: values {node.first} to {end} of {wide[0]}")
        if node.op == "rotate":
            _check_heads(node, wide[0], lanes)
        total = sum(wide) if node.op == "concat" else wide[0] if operator.same and wide else 0
        found[node.name] = total or node.width
        if found[node.name] > WIDTH_MAX:
            raise BadRequest(f"{node.name}: {found[node.name]} values; {WIDTH_MAX} are compiled")
    return found


def _check_heads(node: Node, width: int, lanes: int) -> None:
    dim = node.head_dim
    if dim < 2 or dim % 2 or width % dim or (lanes % dim and width > lanes) or dim > lanes:
        raise BadRequest(
            f"{node.name}: heads of {dim} in {width} values do not tile vectors of {lanes}",
            hint=f"an even width that divides the value's, and {lanes} if it is longer than that",
        )
    if not 1 <= node.positions <= POSITIONS_MAX:
        raise BadRequest(
            f"{node.name}: {node.positions} positions", hint=f"1 to {POSITIONS_MAX} are compiled"
        )


POSITIONS_MAX = 4096
"""Each table of cosines or sines has a word of two slices for each."""


def formatted(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Nodes with conversions between, so that each takes and gives what its operator can."""
    found: dict[str, Node] = {}

    def held(name: str, number: Held | None) -> str:
        if number is None or found[name].number == number:
            return name
        cast = f"{name}:{number}"
        found.setdefault(cast, Node(name=cast, op="cast", inputs=(name,), number=number))
        return cast

    for node in nodes:
        operator = OPERATORS[node.op]
        inputs = tuple(held(name, operator.takes) for name in node.inputs)
        made = replace(node, inputs=inputs)
        if operator.gives not in (None, node.number):
            inner = replace(made, name=f"{node.name}:made", number=operator.gives)
            found[inner.name] = inner
            made = Node(name=node.name, op="cast", inputs=(inner.name,), number=node.number)
        found[made.name] = made
    return tuple(found.values())


def columns(width: int, lanes: int) -> list[int]:
    """Columns of each vector of a product's result."""
    return [min(lanes, width - n) for n in range(0, width, lanes)]
