"""Parts of vectors, and vectors one behind the other: lanes turned by the switch unit.

Turned by r, a vector's lanes r to 319 come first and the r before them last. So a part that
begins in lane r is made of neighbours, both turned, one of them in the lanes up to 320 - r and the
other in those from there on.
"""

from __future__ import annotations

from dataclasses import dataclass

from atoll.lpu.compiler.builder import Builder
from atoll.lpu.compiler.chain import Tensor
from atoll.lpu.compiler.graphs.elementwise import Formula, Source, elementwise, through
from atoll.lpu.program import Number


@dataclass(frozen=True, slots=True)
class Halves:
    """Tables of a lane, f16, shape (1, 320): 1 in lanes `before` it, and in those from it on."""

    lane: int
    before: Tensor
    after: Tensor


def turned(builder: Builder, x: Tensor, shift: int) -> Tensor:
    """Lane i of each vector is lane (i + shift) mod 320 of x's; f16 or f32 as x."""
    into = builder.memory.scratch(x.number, x.count, apart=[x])
    chain = builder.chain()
    count = x.count
    values = chain.read(x, count=count)
    flow = chain.streams(x.side, "out", len(x.slices))
    chain.vector([values], [], [(0, x.number, flow)], at=0, count=count)
    back = chain.switch(flow, at=0, shift=shift, count=count)
    out = chain.streams(into.side, "out", len(into.slices))
    at = builder.timing.switched(0)
    chain.vector([back], [], [(0, x.number, out)], at=at, count=count)
    chain.write(into, out, at=at, count=count)
    builder.place(chain)
    return into


def part(
    builder: Builder,
    x: Tensor,
    first: int,
    count: int,
    *,
    halves: Halves | None,
    edge: Tensor | None,
    number: Number,
) -> Tensor:
    """Values of x from `first` on.

    Args:
        builder: The routine.
        x: f16 or f32.
        first: A value.
        count: Vectors of the result.
        halves: Of lane 320 - r, r being the lane of `first`; None if that is 0.
        edge: 1 in lanes of the result where it has values, f16, shape (count, 320); None: all.
        number: Format of the result.
    """
    lanes = builder.timing.lanes
    skip, shift = divmod(first, lanes)
    if halves is None:
        sources = [Source(x, skip), *([Source(edge)] if edge else [])]
        return elementwise(builder, sources, _product if edge else _same, number, count=count)
    near = turned(builder, x, shift)
    both = min(count, x.count - 1 - skip)
    tables = [halves.before, halves.after, *([edge] if edge else [])]
    found = builder.memory.scratch(number, count, apart=[near, *tables])

    def joined(formula: Formula) -> int:
        value = _both(formula)
        return formula.do("mul", value, 4) if edge else value

    def last(formula: Formula) -> int:
        value = _product(formula)
        return formula.do("mul", value, 2) if edge else value

    fixed = [Source(halves.before, step=0), Source(halves.after, step=0)]
    if both:
        sources = [Source(near, skip), Source(near, skip + 1), *fixed]
        sources += [Source(edge)] if edge else []
        through(builder, sources, joined, found, count=both)
    if both < count:
        sources = [Source(near, skip + both), fixed[0]]
        sources += [Source(edge, both)] if edge else []
        through(builder, sources, last, found, count=1, first=both)
    return found


def behind(
    builder: Builder, x: Tensor, y: Tensor, count: int, *, halves: Halves | None, number: Number
) -> Tensor:
    """x, and behind it y.

    Args:
        builder: The routine.
        x: f16 or f32.
        y: f16 or f32.
        count: Vectors of the result.
        halves: Of the lane in which y begins, within the last vector of x; None: it begins anew.
        number: Format of the result.
    """
    tables = [halves.before, halves.after] if halves else []
    found = builder.memory.scratch(number, count, apart=[x, y, *tables])
    if halves is None:
        through(builder, [Source(x)], _same, found, count=x.count)
        through(builder, [Source(y)], _same, found, count=y.count, first=x.count)
        return found
    whole = x.count - 1
    if whole:
        through(builder, [Source(x)], _same, found, count=whole)
    shift = -halves.lane
    near = turned(builder, y, shift)
    before, after = Source(halves.before, step=0), Source(halves.after, step=0)

    def begun(formula: Formula) -> int:
        return formula.do("add", 0, formula.do("mul", 1, 2))

    through(builder, [Source(x, whole), Source(near), after], begun, found, count=1, first=whole)
    if y.count > 1:
        sources = [Source(near), Source(near, 1), before, after]
        through(builder, sources, _both, found, count=y.count - 1, first=whole + 1)
    if count > whole + y.count:
        sources = [Source(near, y.count - 1), before]
        through(builder, sources, _product, found, count=1, first=whole + y.count)
    return found


def _same(formula: Formula) -> int:
    del formula
    return 0


def _product(formula: Formula) -> int:
    return formula.do("mul", 0, 1)


def _both(formula: Formula) -> int:
    return formula.do("add", formula.do("mul", 0, 2), formula.do("mul", 1, 3))
