"""Root mean square norm of a vector: sums across lanes by a product with ones.

    y = x / sqrt(mean(x^2) + eps) * w

Zhang and Sennrich, arXiv:1910.07467. Lanes cannot be added to each other in the vector unit; a
product with a matrix of ones adds all of them, over all vectors, and puts the sum into every
lane.
"""

from __future__ import annotations

from dataclasses import dataclass

from atoll.lpu.compiler.builder import Builder
from atoll.lpu.compiler.chain import Tensor
from atoll.lpu.compiler.memory import Tile
from atoll.lpu.program import SIDES, Alu, Operand, Side

BURST = 16
"""Vectors that pass the vector unit before the first of them comes back to slices that are
still read: twice the way to the outer slices is more.
"""


@dataclass(frozen=True, slots=True)
class Ones:
    """A tile of ones on each side."""

    west: Tile
    east: Tile

    def on(self, side: Side) -> Tile:
        """The one of a side."""
        return self.west if side == SIDES[0] else self.east


def rms_norm(
    builder: Builder, x: Tensor, weight: Tensor, ones: Ones, *, hidden: int, eps: float
) -> Tensor:
    """The normed vector, f16.

    Args:
        builder: The routine it goes into.
        x: f32, shape (vectors, 320); lanes beyond `hidden` are zeros.
        weight: f16, shape (vectors, 320).
        ones: Tiles of ones.
        hidden: Values of the vector.
        eps: Added to the mean.
    """
    memory = builder.memory
    side: Side = "east"
    builder.load(ones.on(side), side)
    total = memory.scratch("f32", 1)
    sums = builder.chain()
    stride = builder.timing.row_cycles("f16")
    values = sums.read(x, count=x.count, stride=stride)
    out = sums.streams(side, "out", 2)
    # Scaled before it is squared: squares of large values do not fit into f16.
    squares = [Alu("mul", (0, hidden**-0.5)), Alu("mul", (1, 1)), Alu("f16", (2,))]
    [at] = sums.vector([values], squares, [(3, "f16", out)], at=0, count=x.count, stride=stride)
    emitted = None
    for n in range(x.count):
        emitted = sums.multiply(
            out, at=at + n * stride, emit=n == x.count - 1, install=n == 0, clear=n == 0
        )
    assert emitted is not None
    done = builder.timing.multiplied(at + (x.count - 1) * stride)
    back = sums.streams(total.side, "out", 4)
    root = [Alu("add", (0, float(eps))), Alu("rsqrt", (1,))]
    [left] = sums.vector([Operand(emitted, "f32")], root, [(2, "f32", back)], at=done)
    sums.write(total, back, at=left)
    begin = builder.place(sums, builder.multiply_ready(side) - at)
    builder.used(side, begin + at, x.count)

    y = memory.scratch("f16", x.count)
    for first in range(0, x.count, BURST):
        count = min(BURST, x.count - first)
        scale = builder.chain()
        operands = [
            scale.read(x, first=first, count=count),
            scale.read(total, count=count, step=0),
            scale.read(weight, first=first, count=count),
        ]
        steps = [Alu("mul", (0, 1)), Alu("mul", (3, 2)), Alu("f16", (4,))]
        out = scale.streams(y.side, "out", 2)
        [left] = scale.vector(operands, steps, [(5, "f16", out)], at=0, count=count)
        scale.write(y, out, at=left, first=first, count=count)
        builder.place(scale)
    return y
