"""One token's attention on a chip: rotation, scores, softmax, values, for grouped queries.

Heads lie in lanes side by side: a vector of queries holds, for each head of keys that fits into
320 lanes (a slot), one of the heads that share it. Scores of a head are those lanes of the
vector, the others zeroed, times the tile of keys. The softmax's denominator is a product of the
exponentials with ones, its maximum is found by turning lanes against each other.

Sources: rotation, arXiv:2104.09864; grouped queries, arXiv:2305.13245.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from atoll.lpu.compiler.builder import Builder
from atoll.lpu.compiler.caches import VALUES_SIDE, Cache
from atoll.lpu.compiler.chain import Chain, Tensor
from atoll.lpu.compiler.norm import Ones
from atoll.lpu.program import SIDES, Alu, Flow, Operand, Side

PEAK_OPERANDS = 8
"""Vectors of f32 of which the greatest is taken in a pass."""
PEAK_ROWS = 8
"""Rows that are read before the first of their peaks is back, maybe at slices that are read."""
UP = 4
"""Streams of an f32 vector."""


@dataclass(frozen=True, slots=True)
class Heads:
    """Heads of a lane group: `slots` of keys, `rows` of queries that share each, `dim` wide."""

    slots: int
    rows: int
    dim: int

    @property
    def lanes(self) -> int:
        """Lanes that are used."""
        return self.slots * self.dim


@dataclass(frozen=True, slots=True)
class Tables:
    """Vectors that lie in memory: cosines, and sines for the lanes after and before; by index
    of the position. `slots`: 1 in the lanes of a slot. `past`: row n is 0 in lanes before n and
    very low after. All f16.
    """

    cosine: Tensor
    after: Tensor
    before: Tensor
    slots: tuple[Tensor, ...]
    past: Tensor
    ones: Ones


def rotate(
    builder: Builder, x: Tensor, tables: Tables, shift: int, *, masked: int, count: int
) -> list[Tensor]:
    """Rotated by the position, f16; of queries a tensor for each of `masked` slots, the other
    lanes being zero, of keys (`masked` 0) one.

    The lanes that are turned with each other are `shift` apart.
    """
    chain = builder.chain()
    there = builder.timing.switched(0)
    flows = [chain.streams(side, "out", 2) for side in SIDES]
    vector = chain.read(x, count=count)
    chain.vector([vector], [], [(0, "f16", flow) for flow in flows], at=0, count=count)
    turned = [
        chain.switch(flow, at=0, shift=by, count=count)
        for flow, by in zip(flows, (shift, -shift), strict=True)
    ]
    fixed = [tables.cosine, tables.after, tables.before, *tables.slots[:masked]]
    operands = [
        chain.read(x, at=there, count=count),
        *turned,
        *(chain.read(table, at=there, count=count, step=0) for table in fixed),
    ]
    steps = [Alu("mul", (0, 3)), Alu("mul", (1, 4)), Alu("mul", (2, 5))]
    n = len(operands)
    steps += [Alu("add", (n, n + 1)), Alu("add", (n + 3, n + 2))]
    value = n + 4
    wanted: list[int] = []
    for slot in range(max(masked, 1)):
        if masked:
            steps.append(Alu("mul", (value, 6 + slot)))
        steps.append(Alu("f16", (n + len(steps) - 1 if masked else value,)))
        wanted.append(n + len(steps) - 1)
    made = [builder.memory.scratch("f16", count) for _ in wanted]
    out = [chain.streams(tensor.side, "out", 2) for tensor in made]
    left = chain.vector(
        operands,
        steps,
        [(value, "f16", flow) for value, flow in zip(wanted, out, strict=True)],
        at=there,
        count=count,
    )
    for tensor, flow, at in zip(made, out, left, strict=True):
        chain.write(tensor, flow, at=at, count=count)
    builder.place(chain)
    return made


def scores(
    builder: Builder, queries: Sequence[Tensor], cache: Cache, tables: Tables, since: int
) -> list[Tensor]:
    """Products of all queries with the keys, f32, a tensor of all heads for each block.

    Args:
        builder: The routine.
        queries: A tensor for each slot, shape (rows, 320).
        cache: Keys, of which those of later positions are made very low.
        tables: For the masks.
        since: Cycle from which the keys are there.
    """
    found = []
    stride = builder.timing.row_cycles("f16")
    rows = queries[0].count
    for b, tile in enumerate(cache.keys):
        side = SIDES[b % 2]
        builder.load(tile, side, since=since)
        block = builder.memory.scratch("f32", rows * len(queries))
        past = Tensor("f16", tables.past.side, tables.past.slices, tables.past.address, 1)
        past.index = f"block {b}"
        for slot, query in enumerate(queries):
            chain = builder.chain()
            vector = chain.read(query, count=rows, stride=stride)
            out = chain.streams(side, "out", 2)
            chain.vector([vector], [], [(0, "f16", out)], at=0, count=rows, stride=stride)
            sums = chain.multiply(
                out, at=0, emit=True, install=slot == 0, count=rows, stride=stride
            )
            at = builder.timing.multiplied(0)
            mask = chain.read(past, at=at, step=0, count=rows, stride=stride)
            back = chain.streams(block.side, "out", UP)
            steps = [Alu("add", (0, 1))]
            [left] = chain.vector(
                [Operand(sums, "f32"), mask],
                steps,
                [(2, "f32", back)],
                at=at,
                count=rows,
                stride=stride,
            )
            chain.write(block, back, at=left, first=slot * rows, count=rows, stride=stride)
            _multiply(builder, chain, (side,), rows, install=slot == 0)
        found.append(block)
    return found


def _multiply(
    builder: Builder, chain: Chain, sides: Sequence[Side], rows: int, *, install: bool, at: int = 0
) -> None:
    """Place a chain whose products on some sides begin at its phase `at`."""
    planes = [builder.planes[side] for side in sides]
    ready = [builder.multiply_ready(s) if install else builder.planes[s].used for s in sides]
    begin = builder.place(chain, max(ready) - at) + at
    for side, plane in zip(sides, planes, strict=True):
        if install:
            builder.used(side, begin, rows)
        plane.used = begin + rows * builder.timing.row_cycles("f16")


def peaks(builder: Builder, blocks: Sequence[Tensor]) -> Tensor:
    """The greatest score of each head, in all lanes; f32, shape (heads, 320)."""
    while len(blocks) > PEAK_OPERANDS:
        blocks = [
            _greatest(builder, blocks[i : i + PEAK_OPERANDS])
            for i in range(0, len(blocks), PEAK_OPERANDS)
        ]
    count = blocks[0].count
    chain = builder.chain()
    operands = [chain.read(block, count=count) for block in blocks]
    turn = 0
    flows = [Flow(side, "out", 0, UP) for side in SIDES]
    steps, value = _tree(len(operands))
    results = [(value, "f32", flow) for flow in flows]
    at = chain.vector(operands, steps, results, at=0, count=count)[0]  # type: ignore[arg-type]
    width = 1
    peak = builder.memory.work("f32", count)
    while width < builder.timing.lanes:
        operands = [
            chain.switch(flow, at=at, shift=shift, count=count, first=8 + UP * (turn % 4))
            for flow, shift in zip(flows, (0, width), strict=True)
        ]
        there = builder.timing.switched(at)
        turn += 1
        width *= 2
        flows = [Flow(side, "out", UP * (turn % 4), UP) for side in SIDES]
        if width >= builder.timing.lanes:
            flows = [Flow(peak.side, "out", UP * (turn % 4), UP)]
        results = [(2, "f32", flow) for flow in flows]
        at = chain.vector(operands, [Alu("max", (0, 1))], results, at=there, count=count)[0]  # type: ignore[arg-type]
    chain.write(peak, flows[0], at=at, count=count)
    builder.place(chain)
    return peak


def _tree(operands: int) -> tuple[list[Alu], int]:
    """Steps that find the greatest of so many values, and the value that it is."""
    values = list(range(operands))
    steps: list[Alu] = []
    while len(values) > 1:
        steps.append(Alu("max", (values[0], values[1])))
        values = [*values[2:], operands + len(steps) - 1]
    return steps, values[0]


def _greatest(builder: Builder, blocks: Sequence[Tensor]) -> Tensor:
    found = builder.memory.scratch("f32", blocks[0].count)
    for first in range(0, found.count, PEAK_ROWS):
        count = min(PEAK_ROWS, found.count - first)
        chain = builder.chain()
        operands = [chain.read(block, first=first, count=count) for block in blocks]
        steps, value = _tree(len(operands))
        out = chain.streams(found.side, "out", UP)
        [at] = chain.vector(operands, steps, [(value, "f32", out)], at=0, count=count)
        chain.write(found, out, at=at, first=first, count=count)
        builder.place(chain)
    return found


def mix(
    builder: Builder,
    blocks: Sequence[Tensor],
    peak: Tensor,
    cache: Cache,
    *,
    heads: Heads,
    ones: Ones,
    since: int,
    into: Tensor,
) -> None:
    """The softmax of the scores times the values, f16, into a tensor, shape (rows, 320).

    Slots lie in other lanes of the same rows: their products, of the columns of their slot only,
    add up to them.
    """
    other = SIDES[1] if SIDES[0] == VALUES_SIDE else SIDES[0]
    stride = builder.timing.row_cycles("f16")
    rows = heads.rows
    sides = (VALUES_SIDE, other)
    for b, block in enumerate(blocks):
        for slot in range(heads.slots):
            columns = (slot * heads.dim, heads.dim)
            builder.load(cache.values[b], VALUES_SIDE, columns=columns, since=since)
            builder.load(ones.on(other), other, columns=columns)
            last = b == len(blocks) - 1 and slot == heads.slots - 1
            chain = builder.chain()
            first = slot * heads.rows
            operands = [
                chain.read(t, first=first, count=rows, stride=stride) for t in (block, peak)
            ]
            flows = [chain.streams(side, "out", 2) for side in sides]
            steps = [Alu("sub", (0, 1)), Alu("exp", (2,)), Alu("f16", (3,))]
            at = chain.vector(
                operands,
                steps,
                [(4, "f16", flow) for flow in flows],
                at=0,
                count=rows,
                stride=stride,
            )[0]
            sums = [
                chain.multiply(
                    flow, at=at, emit=last, clear=b == slot == 0, count=rows, stride=stride
                )
                for flow in flows
            ]
            if last:
                there = builder.timing.multiplied(at)
                out = chain.streams(into.side, "out", 2)
                # One over the sum by two roots: the vector unit does not divide. In lanes of no
                # head the sum is 0, in others at least 1.
                divided = [
                    Alu("add", (1, 1e-30)),
                    Alu("rsqrt", (2,)),
                    Alu("mul", (3, 3)),
                    Alu("mul", (0, 4)),
                    Alu("f16", (5,)),
                ]
                [left] = chain.vector(
                    [Operand(flow, "f32") for flow in sums],
                    divided,
                    [(6, "f16", out)],
                    at=there,
                    count=rows,
                    stride=stride,
                )
                chain.write(into, out, at=left, count=rows, stride=stride)
            _multiply(builder, chain, sides, heads.rows, install=True, at=at)
