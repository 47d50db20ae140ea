"""Products of many rows: [rows x depth] times [depth x width] on one chip, int8 or f16.

Rows come in blocks of at most as many as a plane has accumulators. A tile of 320 columns of a
block is one item of a plane (of f16, of a pair of planes): for each 320 of the depth it loads
weights and streams the block past them, and with the last the sums leave, pass the vector unit
and are written. The loads are hidden, as 40 cycles (f16: 80) are less than a block takes.

What is lost against the peak: lanes and columns that a depth or width which is no multiple of
320 leave empty; planes that have nothing to do where tiles times blocks do not divide by four;
the way to the first rows and from the last results, some 200 cycles; and where what becomes of
the sums takes more ALUs than there are for the planes that emit at the same time, cycles in
which they wait for each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from atoll.domain.errors import BadRequest
from atoll.lpu.compiler.chain import Tensor
from atoll.lpu.compiler.rows.emission import LANES, Emission, Finish, Target
from atoll.lpu.compiler.rows.items import Item, Rows
from atoll.lpu.compiler.rows.planes import PATIENCES, Planes
from atoll.lpu.compiler.rows.room import Room, Weights
from atoll.lpu.program import SIDES, Alu, Number, Operand, Routine, Side
from atoll.lpu.timing import Timing

GELU = (math.sqrt(2 / math.pi), 0.044715)
"""gelu(x) = x / 2 (1 + tanh(a (x + b x^3))), Hendrycks and Gimpel, arXiv:1606.08415."""


@dataclass(frozen=True, slots=True)
class Epilogue:
    """What becomes of a sum, in this order: times `scale`, plus a bias of its column (f16), GELU,
    plus a residual (f16), times `out_scale` into the format `number`.
    """

    number: Number
    scale: float = 1.0
    out_scale: float = 1.0
    bias: bool = False
    gelu: bool = False
    residual: bool = False

    def steps(self, bias: int | None, residual: int | None) -> list[Alu]:
        """ALUs on value 0; bias and residual are values 1 and 2, or 1 if alone."""
        steps: list[Alu] = []
        base = 1 + (bias is not None) + (residual is not None)
        at = 0

        def add(op: Alu) -> int:
            steps.append(op)
            return base + len(steps) - 1

        # GELU as y (1 + tanh(c y + y^3)) times a factor, y = k x and k^3 = a b: one ALU less.
        a, b = GELU
        k = (a * b) ** (1 / 3) if self.gelu else 1.0
        last = self.number not in ("f32", "int32")
        factor = self.out_scale
        if self.scale * k != 1.0 or self.gelu:
            at = add(Alu("mul", (at, self.scale * k)))
        if bias is not None:
            at = add(Alu("add", (at, bias)))
        if self.gelu:
            square = add(Alu("mul", (at, at)))
            inner = add(Alu("mul", (at, add(Alu("add", (square, a / k))))))
            gate = add(Alu("add", (add(Alu("tanh", (inner,))), 1.0)))
            half = 1 / (2 * k) if residual is not None else factor / (2 * k)
            factor = factor if residual is not None else 1.0
            at = add(Alu("mul", (add(Alu("mul", (at, half))), gate)))
        if residual is not None:
            at = add(Alu("add", (at, residual)))
        if factor != 1.0:
            at = add(Alu("mul", (at, factor)))
        if last or at == 0:
            add(Alu(self.number, (at,)))
        return steps

    @property
    def alus(self) -> int:
        """Steps of a result."""
        return len(self.steps(1 if self.bias else None, 1 if self.residual else None))

    @property
    def bias_factor(self) -> float:
        """What biases are multiplied with before they are laid into memory."""
        return (GELU[0] * GELU[1]) ** (1 / 3) if self.gelu else 1.0

    def finish(
        self,
        targets: Sequence[Tensor],
        bias: Tensor | None = None,
        residual: Tensor | None = None,
        *,
        first: int = 0,
    ) -> Finish:
        """For an item of one block, which goes to all the targets, from vector `first` on; the
        residual has the same rows.
        """

        def emit(emission: Emission) -> None:
            assert emission.sums is not None
            operands: list[Operand] = [emission.sums]
            at: list[int | None] = [None, None]
            if bias is not None:
                at[0] = len(operands)
                operands.append(emission.operand(bias, 0, step=0))
            if residual is not None:
                at[1] = len(operands)
                operands.append(emission.operand(residual, first))
            steps = self.steps(at[0], at[1])
            value = len(operands) + len(steps) - 1
            where = [[Target(target, first, emission.count)] for target in targets]
            emission.vector(operands, steps, [(value, self.number, to) for to in where])

        return emit


@dataclass(slots=True)
class Matrix:
    """Weights by tiles: `tiles[k][n]`, of which all of one n lie on one side; biases of each n."""

    tiles: list[list[Weights]]
    sides: list[Side]
    bias: list[Tensor] | None = None


def matrix(
    room: Room,
    what: str,
    number: Number,
    shape: tuple[int, Sequence[int]],
    *,
    bias: bool = False,
) -> Matrix:
    """Room for weights, so many tiles deep, of so many columns each; on both sides by turns."""
    depth, columns = shape
    sides = [SIDES[n % 2] for n in range(len(columns))]
    tiles = [
        [
            room.weights(what, (k, n), columns=count, number=number, side=sides[n])
            for n, count in enumerate(columns)
        ]
        for k in range(depth)
    ]
    found = Matrix(tiles, sides)
    if bias:
        # Of the side that a residual is not on.
        found.bias = [
            room.table(f"{what} bias", (n,), side=SIDES[1 - n % 2], slot=n // 2 % 2)
            for n in range(len(columns))
        ]
    return found


def tiled(count: int, most: int) -> list[int]:
    """So many columns as tiles of at most so many."""
    return [min(most, count - n) for n in range(0, count, most)]


def blocks(rows: int, most: int) -> list[range]:
    """Rows in equal blocks of at most so many."""
    count = -(-rows // most)
    return [range(rows * i // count, rows * (i + 1) // count) for i in range(count)]


def last_tiles(block: Sequence[Tensor]) -> list[Tensor]:
    """Of the rows of a block, those that a plane may read while sums leave."""
    return [block[(len(block) - 1 + lane) % len(block)] for lane in range(LANES)]


def product(
    planes: Planes,
    room: Room,
    x: Sequence[Sequence[Tensor]],
    weights: Matrix,
    epilogue: Epilogue,
    *,
    number: Number,
    residual: Sequence[Sequence[Tensor]] | None = None,
    out: Sequence[Sequence[Tensor]] | None = None,
    part: str = "",
) -> list[list[Tensor]]:
    """Add a product to what planes do.

    Args:
        planes: The schedule.
        room: The chip's memory.
        x: Rows by blocks and tiles of the depth, `x[block][k]`.
        weights: The matrix.
        epilogue: What becomes of the sums.
        number: Format of rows and weights.
        residual: What is added, `residual[block][n]`.
        out: Where results go, `out[block][n]`; None: somewhere on the side of their weights.
        part: Name of the part of the schedule.

    Returns:
        Results, `y[block][n]`.
    """
    depth = len(weights.tiles)
    found: list[list[Tensor]] = []
    for b, block in enumerate(x):
        rows = tuple((Rows(tensor, 0, tensor.count),) for tensor in block)
        found.append([])
        for n, side in enumerate(weights.sides):
            added = residual[b][n] if residual else None
            others = [added] if added else []
            read = [*last_tiles(block), *others]
            target = (
                out[b][n]
                if out
                else room.rows(epilogue.number, block[0].count, side=side, avoid=read)
            )
            bias = weights.bias[n] if weights.bias else None
            finish = epilogue.finish([target], bias, added)
            tiles = tuple(weights.tiles[k][n] for k in range(depth))
            touched = {(t.side, s) for t in [*others, target] for s in t.slices}
            meets = any((t.side, s) in touched for t in block for s in t.slices)
            planes.add(side, Item(side, number, tiles, (rows,), epilogue.alus, finish, part, meets))
            found[-1].append(target)
    return found


@dataclass(frozen=True, slots=True)
class Dense:
    """A product that is compiled: rows are `x[block][k]`, results `y[block][n]`."""

    routine: Routine
    room: Room
    x: list[list[Tensor]]
    residual: list[list[Tensor]]
    y: list[list[Tensor]]
    ideal_cycles: float = field(default=0.0)

    @property
    def efficiency(self) -> float:
        """Share of the peak that the product reaches."""
        return self.ideal_cycles / self.routine.cycles


def compile_dense(
    timing: Timing,
    shape: tuple[int, int, int],
    number: Number,
    epilogue: Epilogue,
) -> Dense:
    """A product by itself, everything in memory before and after.

    Args:
        timing: Of the chip.
        shape: Rows, depth, width.
        number: int8 or f16.
        epilogue: What becomes of the sums.

    Raises:
        BadRequest: There are no such products, or it does not fit on a chip.
    """
    rows, depth, width = shape
    if min(shape) < 1:
        raise BadRequest(f"a product of {rows} rows, depth {depth} and width {width}")
    if number not in ("int8", "f16"):
        raise BadRequest(f"matrices of {number} are not multiplied", hint="int8 or f16")
    found = (_compiled(Planes(timing, n), shape, number, epilogue) for n in PATIENCES)
    return min(found, key=lambda dense: dense.routine.cycles)


def _compiled(
    planes: Planes, shape: tuple[int, int, int], number: Number, epilogue: Epilogue
) -> Dense:
    (rows, depth, width), timing = shape, planes.timing
    room = Room(timing)
    deep, columns = -(-depth // timing.lanes), tiled(width, timing.columns)
    weights = matrix(room, "weights", number, (deep, columns), bias=epilogue.bias)
    divided = blocks(rows, timing.assumed.accumulator_rows)
    x = [
        [room.given("rows", (b, k), number, len(block)) for k in range(deep)]
        for b, block in enumerate(divided)
    ]
    residual: list[list[Tensor]] = []
    if epilogue.residual:
        residual = [
            [
                room.given("residual", (b, n), "f16", len(block), side=side, avoid=last_tiles(x[b]))
                for n, side in enumerate(weights.sides)
            ]
            for b, block in enumerate(divided)
        ]
    y = product(planes, room, x, weights, epilogue, number=number, residual=residual or None)
    room.check()
    planes.run()
    peak = timing.chip.macs_cycle("int8" if number == "int8" else "fp16")
    return Dense(planes.routine("dense"), room, x, residual, y, rows * depth * width / peak)
