"""Softmax over all values of a vector: exp(x - max x), divided by the sum of that.

The maximum is found by folding vectors onto each other, and then the lanes of the last (as that of
scores is); the sum by a product with ones.
"""

from __future__ import annotations

from atoll.lpu.compiler.builder import Builder
from atoll.lpu.compiler.chain import Tensor
from atoll.lpu.compiler.decoder.attention import peaks
from atoll.lpu.compiler.decoder.norm import Ones
from atoll.lpu.compiler.graphs.elementwise import Source, elementwise, through
from atoll.lpu.program import Alu, Number, Operand, Side

SIDE: Side = "west"
"""Where exponentials are added."""


def softmax(builder: Builder, x: Tensor, low: Tensor | None, ones: Ones, number: Number) -> Tensor:
    """Shares of the whole, of the shape of x: f16 or f32, shape (vectors, 320).

    Args:
        builder: The routine.
        x: f16 or f32; greater than what makes lanes low.
        low: 0 in lanes where x has values and very low beyond, f16, of its shape; None: it fills
            its vectors.
        ones: Tiles of ones.
        number: Format of the result.
    """
    sources = [Source(x), Source(low)] if low else [Source(x)]
    lowered = elementwise(
        builder, sources, lambda f: f.do("add", 0, 1) if low else 0, "f32", count=x.count
    )
    peak = _peak(builder, lowered)
    shares = elementwise(
        builder,
        [Source(lowered), Source(peak, step=0)],
        lambda f: f.do("exp", f.do("sub", 0, 1)),
        "f16",
        count=x.count,
    )
    total = _one_over_sum(builder, shares, ones)
    whole = [Source(shares), Source(total, step=0)]
    return elementwise(builder, whole, lambda f: f.do("mul", 0, 1), number, count=x.count)


def _peak(builder: Builder, found: Tensor) -> Tensor:
    """The greatest value of vectors of f32, in all lanes of one vector."""
    while found.count > 1:
        half = -(-found.count // 2)
        over = found.count - half
        folded = builder.memory.scratch("f32", half, apart=[found])
        both = [Source(found), Source(found, half)]
        through(builder, both, lambda f: f.do("max", 0, 1), folded, count=over)
        if over < half:
            through(builder, [Source(found, over)], lambda _: 0, folded, count=1, first=over)
        found = folded
    return peaks(builder, [found])


def _one_over_sum(builder: Builder, x: Tensor, ones: Ones) -> Tensor:
    """One over the sum of all lanes of f16 vectors, f32, in all lanes of one vector."""
    builder.load(ones.on(SIDE), SIDE)
    total = builder.memory.scratch("f32", 1, apart=[x])
    stride = builder.timing.row_cycles("f16")
    chain = builder.chain()
    values = chain.read(x, count=x.count, stride=stride)
    flow = chain.streams(SIDE, "out", 2)
    chain.vector([values], [], [(0, "f16", flow)], at=0, count=x.count, stride=stride)
    for n in range(x.count):
        first, last = n == 0, n == x.count - 1
        sums = chain.multiply(flow, at=n * stride, emit=last, install=first, clear=first)
    at = builder.timing.multiplied((x.count - 1) * stride)
    back = chain.streams(total.side, "out", 4)
    # The vector unit does not divide: one over the root, squared.
    steps = [Alu("rsqrt", (0,)), Alu("mul", (1, 1))]
    [left] = chain.vector([Operand(sums, "f32")], steps, [(2, "f32", back)], at=at)
    chain.write(total, back, at=left)
    begin = builder.place(chain, builder.multiply_ready(SIDE))
    builder.used(SIDE, begin, x.count)
    return total
