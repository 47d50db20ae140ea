"""An encoder layer of BERT on one chip: int8 products, static scales, norms after the sums.

    a = norm(x + attention(x) Wo + bo)
    y = norm(a + gelu(a W1 + b1) W2 + b2)

Rows go from part to part as int8, and as f16 where they are added. Everything that a layer
computes is written by one routine; the next layer's x lies where this layer's did, so that
layers of a chip follow each other with other local addresses. Positions come in blocks of at
most as many as a plane has accumulators, and blocks follow each other through the parts: while
the vector unit norms one, planes multiply the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from atoll.lpu.compiler.chain import LATER, Tensor
from atoll.lpu.compiler.encoder.attention import Attention, Factors
from atoll.lpu.compiler.encoder.norm import Norm, ones
from atoll.lpu.compiler.encoder.shape import Shape
from atoll.lpu.compiler.rows.dense import Epilogue, Matrix, matrix, product
from atoll.lpu.compiler.rows.planes import PATIENCES, Planes, Span
from atoll.lpu.compiler.rows.room import Room, Weights
from atoll.lpu.program import SIDES, Routine, Side

Rows = list[list[Tensor]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scales:
    """True size of a step of int8, of activations and of weights, by the name of each.

    Symmetric and of a whole tensor, found beforehand from samples.
    """

    x: float
    query: float
    key: float
    output: float
    attended: float
    inner: float
    y: float
    query_weights: float
    key_weights: float
    value_weights: float
    output_weights: float
    inner_weights: float
    outer_weights: float


@dataclass(frozen=True, slots=True)
class Encoder:
    """A layer that is compiled: x and y are int8 at `x[block][tile]`, f16 at `residual`."""

    shape: Shape
    routine: Routine
    room: Room
    x: Rows
    residual: Rows
    spans: dict[str, Span]


def compile_encoder(shape: Shape, scales: Scales, *, layers: int = 1) -> Encoder:
    """One layer; the chip has so many of the same shape.

    Raises:
        BadRequest: The layers do not fit on a chip; says how many words are missing.
    """
    found = (_compiled(Planes(shape.timing, n), shape, scales, layers) for n in PATIENCES)
    return min(found, key=lambda encoder: encoder.routine.cycles)


def _compiled(planes: Planes, shape: Shape, scales: Scales, layers: int) -> Encoder:
    room = Room(shape.timing, layers)
    x, residual = _given(room, shape)
    attended, attended_f16 = _computed(room, shape)
    turn = Attention(planes, room, shape, factors(shape, scales), x).add()
    means = ones(room)

    weights = matrix(room, "output", "int8", (shape.tiles, shape.columns), bias=True)
    norm = _norm(room, shape, "attention norm", 1 / scales.attended)
    out = _pairs(attended_f16, attended)
    add = _Added(planes, room, shape, means)
    scale = scales.output * scales.output_weights
    add.to("output", turn, weights, scale=scale, residual=residual, norm=norm, out=out)

    inner = _inner(planes, room, shape, scales, attended)
    weights = matrix(room, "outer", "int8", (len(shape.inner_columns), shape.columns), bias=True)
    # Where x was: by then all that reads it has.
    after, after_f16 = (
        [[replace(tensor, there=[LATER] * tensor.count) for tensor in block] for block in rows]
        for rows in (x, residual)
    )
    norm = _norm(room, shape, "feed-forward norm", 1 / scales.y)
    out = _pairs(after_f16, after)
    scale = scales.inner * scales.outer_weights
    add.to("outer", inner, weights, scale=scale, residual=attended_f16, norm=norm, out=out)
    room.check()
    planes.run()
    return Encoder(shape, planes.routine("encoder"), room, x, residual, planes.spans)


@dataclass(frozen=True, slots=True)
class _Added:
    """A product, a residual and a norm, block by block: while the vector unit norms one, planes
    multiply the next.
    """

    planes: Planes
    room: Room
    shape: Shape
    means: dict[Side, Weights]

    def to(
        self,
        part: str,
        x: Rows,
        weights: Matrix,
        *,
        scale: float,
        residual: Rows,
        norm: Norm,
        out: list[list[tuple[Tensor, Tensor]]],
    ) -> None:
        """Adds it to what planes do: sums of x and weights times `scale`."""
        epilogue = Epilogue("f16", scale, bias=True, residual=True)
        sums = _sums(self.room, self.shape)
        for b in range(len(self.shape.blocks)):
            product(
                *(self.planes, self.room, x[b : b + 1], weights, epilogue),
                number="int8",
                residual=residual[b : b + 1],
                out=sums[b : b + 1],
                part=part,
            )
            places = sums[b : b + 1], self.means, out[b : b + 1]
            norm.add(self.planes, self.room, *places, part="norms")


def _given(room: Room, shape: Shape) -> tuple[Rows, Rows]:
    """x as int8, a block on the side on which its rows are also loaded as weights; and as f16."""
    x = [
        [
            room.given("x", (b, k), "int8", shape.block, side=SIDES[b % 2], slot=k)
            for k in range(shape.tiles)
        ]
        for b in range(len(shape.blocks))
    ]
    residual = [
        [
            room.given("residual", (b, n), "f16", shape.block, side=SIDES[n % 2], slot=4 + n // 2)
            for n in range(shape.tiles)
        ]
        for b in range(len(shape.blocks))
    ]
    return x, residual


def _computed(room: Room, shape: Shape) -> tuple[Rows, Rows]:
    """The same of what attention gives."""
    rows = [
        [room.rows("int8", shape.block, side=SIDES[b % 2], slot=k) for k in range(shape.tiles)]
        for b in range(len(shape.blocks))
    ]
    residual = [
        [
            room.rows("f16", shape.block, side=SIDES[n % 2], slot=4 + n // 2)
            for n in range(shape.tiles)
        ]
        for _ in shape.blocks
    ]
    return rows, residual


def _sums(room: Room, shape: Shape) -> Rows:
    """Rows that are to be normed."""
    return [
        [
            room.rows("f16", shape.block, side=SIDES[n % 2], slot=6 + n // 2)
            for n in range(shape.tiles)
        ]
        for _ in shape.blocks
    ]


def _pairs(halves: Rows, bytes_: Rows) -> list[list[tuple[Tensor, Tensor]]]:
    return [list(zip(*both, strict=True)) for both in zip(halves, bytes_, strict=True)]


def key_factor(scales: Scales) -> float:
    """What sums of K are multiplied with to become int8: near what scales say, and an f16."""
    return float(np.float16(scales.x * scales.key_weights / scales.key))


def factors(shape: Shape, scales: Scales) -> Factors:
    """What attention multiplies by."""
    key = scales.x * scales.key_weights / key_factor(scales)
    return Factors(
        query=scales.x * scales.query_weights / scales.query,
        score=scales.query * key / shape.head**0.5,
        value=scales.x * scales.value_weights,
        output=1 / scales.output,
    )


def _norm(room: Room, shape: Shape, what: str, out_scale: float) -> Norm:
    gains, offsets = (
        [
            room.table(f"{what} {name}", (n,), side=SIDES[n % 2], slot=slot)
            for n in range(shape.tiles)
        ]
        for slot, name in enumerate(("gain", "offset"))
    )
    return Norm(gains, offsets, out_scale)


def _inner_slots(tiles: int) -> list[int]:
    """Slots of int8 for so many tiles, two with each, one on each side.

    Sums of the next product go to slots 12 to 15. The rows that it may read just then, of the last
    tile and the first three, come from others.
    """
    last = (tiles - 1) // 2
    slots = [(4, 5)[n] if n < 2 else (12, 13, 14, 15, 7, 4, 5)[(n - 2) % 7] for n in range(last)]
    slots.append((4, 5)[last] if last < 2 else 6)
    return [slots[n // 2] for n in range(tiles)]


def _inner(planes: Planes, room: Room, shape: Shape, scales: Scales, rows: Rows) -> Rows:
    """gelu(a W1 + b1) as int8."""
    weights = matrix(room, "inner", "int8", (shape.tiles, shape.inner_columns), bias=True)
    epilogue = Epilogue(
        *("int8", scales.attended * scales.inner_weights, 1 / scales.inner), bias=True, gelu=True
    )
    slots = _inner_slots(len(weights.sides))
    out = [
        [
            room.rows("int8", shape.block, side=side, slot=slot)
            for slot, side in zip(slots, weights.sides, strict=True)
        ]
        for _ in shape.blocks
    ]
    product(*(planes, room, rows, weights, epilogue), number="int8", out=out, part="inner")
    return out
