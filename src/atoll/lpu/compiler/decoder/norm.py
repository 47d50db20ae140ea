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

DOWN = 256.0
"""What values are divided by before they are squared: squares of all that a half holds are
halves then.
"""
REST = 4096
"""What is left of a square when it is rounded to a half is multiplied by this."""
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
    total = memory.scratch("f32", 1, apart=(x, weight))
    _sum_squares(builder, x, total, ones, hidden=hidden, eps=eps)
    y = memory.scratch("f16", x.count, apart=(x, weight, total))
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


def _sum_squares(
    builder: Builder, x: Tensor, total: Tensor, ones: Ones, *, hidden: int, eps: float
) -> None:
    """One over the root of the mean square, in all lanes.

    Squares are summed as halves, so that those of the largest must not be too large nor those of
    the smallest nothing: what rounding took of each is summed too, on the other side.
    """
    for side in SIDES:
        builder.load(ones.on(side), side)
    sums = builder.chain()
    stride = builder.timing.row_cycles("f16")
    values = sums.read(x, count=x.count, stride=stride)
    flows = [sums.streams(side, "out", 2) for side in SIDES]
    parts = [
        Alu("mul", (0, 1 / DOWN)),
        Alu("mul", (1, 1)),
        Alu("f16", (2,)),
        Alu("sub", (2, 3)),
        Alu("mul", (4, float(REST))),
        Alu("f16", (5,)),
        # Kept back until the rest is there.
        Alu("add", (3, 0.0)),
        Alu("add", (7, 0.0)),
        Alu("f16", (8,)),
    ]
    both = [(9, "f16", flows[0]), (6, "f16", flows[1])]
    at, _ = sums.vector([values], parts, both, at=0, count=x.count, stride=stride)  # type: ignore[arg-type]
    emitted: list[Operand] = []
    for n in range(x.count):
        last, first = n == x.count - 1, n == 0
        emitted = [
            Operand(
                sums.multiply(flow, at=at + n * stride, emit=last, install=first, clear=first),
                "f32",
            )
            for flow in flows
        ]
    done = builder.timing.multiplied(at + (x.count - 1) * stride)
    back = sums.streams(total.side, "out", 4)
    root = [
        Alu("mul", (1, 1 / REST)),
        Alu("add", (0, 2)),
        Alu("mul", (3, DOWN**2 / hidden)),
        Alu("add", (4, float(eps))),
        Alu("rsqrt", (5,)),
    ]
    [left] = sums.vector(emitted, root, [(6, "f32", back)], at=done)
    sums.write(total, back, at=left)
    begin = builder.place(sums, max(builder.multiply_ready(side) for side in SIDES) - at)
    for side in SIDES:
        builder.used(side, begin + at, x.count)
