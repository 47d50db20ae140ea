"""Passes of values through the vector unit, lane by lane."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from atoll.lpu.compiler.builder import Builder
from atoll.lpu.compiler.chain import Tensor
from atoll.lpu.program import Alu, AluOp, Number

GELU = (math.sqrt(2 / math.pi), 0.044715)
"""gelu(x) = x / 2 (1 + tanh(a (x + b x^3))), Hendrycks and Gimpel, arXiv:1606.08415."""


@dataclass(frozen=True, slots=True)
class Source:
    """Vectors of a tensor from `first` on; with `step` 0 always the same."""

    tensor: Tensor
    first: int = 0
    step: int = 1


class Formula:
    """Steps of a pass, one after the other; values are counted as the vector unit does."""

    def __init__(self, operands: int) -> None:
        self.operands = operands
        self.steps: list[Alu] = []

    def do(self, op: AluOp, *arguments: int | float) -> int:
        """Another step; returns its value."""
        self.steps.append(Alu(op, arguments))
        return self.operands + len(self.steps) - 1


def silu(formula: Formula, x: int) -> int:
    """x / (1 + exp(-x)) = h + h tanh(h), h = x / 2."""
    half = formula.do("mul", x, 0.5)
    return formula.do("add", half, formula.do("mul", half, formula.do("tanh", half)))


def gelu(formula: Formula, x: int) -> int:
    """By tanh."""
    a, b = GELU
    cubed = formula.do("mul", formula.do("mul", x, x), b)
    inner = formula.do("mul", formula.do("mul", x, formula.do("add", cubed, 1.0)), a)
    gate = formula.do("add", formula.do("tanh", inner), 1.0)
    return formula.do("mul", formula.do("mul", x, 0.5), gate)


FUNCTIONS: dict[str, Callable[[Formula, int], int]] = {
    "silu": silu,
    "gelu": gelu,
    "relu": lambda formula, x: formula.do("relu", x),
    "exp": lambda formula, x: formula.do("exp", x),
    "tanh": lambda formula, x: formula.do("tanh", x),
}
"""Of one value."""


def elementwise(
    builder: Builder,
    sources: Sequence[Source],
    make: Callable[[Formula], int],
    number: Number,
    *,
    count: int,
) -> Tensor:
    """What a formula makes of so many vectors, in slices of which no source has any.

    Args:
        builder: The routine.
        sources: Operands of the formula, no two of them equal.
        make: Adds its steps; returns the value that is wanted.
        number: The result's format.
        count: Vectors.
    """
    free = _apart(builder, sources, count)
    into = builder.memory.scratch(number, count, apart=[source.tensor for source in free])
    through(builder, free, make, into, count=count)
    return into


def through(
    builder: Builder,
    sources: Sequence[Source],
    make: Callable[[Formula], int],
    into: Tensor,
    *,
    count: int,
    first: int = 0,
) -> None:
    """The same, into vectors of a tensor from `first` on that has no slice of a source."""
    chain = builder.chain()
    operands = [
        chain.read(source.tensor, first=source.first, step=source.step, count=count)
        for source in _apart(builder, sources, count, into)
    ]
    formula = Formula(len(operands))
    value = make(formula)
    if into.number == "f16" or value < len(operands):
        value = formula.do(into.number, value)
    out = chain.streams(into.side, "out", len(into.slices))
    [at] = chain.vector(operands, formula.steps, [(value, into.number, out)], at=0, count=count)
    chain.write(into, out, at=at, first=first, count=count)
    builder.place(chain)


def _apart(
    builder: Builder, sources: Sequence[Source], count: int, *others: Tensor
) -> list[Source]:
    """The same vectors in slices of which no two have any, or one of some other tensors: copies
    of those that are in the way.
    """
    found: list[Source] = []
    for source in sources:
        if not any(_meet(source.tensor, o) for o in [*others, *(f.tensor for f in found)]):
            found.append(source)
            continue
        tensors = [*others, *(s.tensor for s in [*sources, *found])]
        vectors = count if source.step else 1
        copy = builder.memory.scratch(source.tensor.number, vectors, apart=tensors)
        through(builder, [source], lambda _: 0, copy, count=vectors)
        found.append(Source(copy, 0, source.step))
    return found


def _meet(one: Tensor, other: Tensor) -> bool:
    return one.side == other.side and not set(one.slices).isdisjoint(other.slices)
