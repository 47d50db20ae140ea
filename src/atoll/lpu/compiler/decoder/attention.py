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
from atoll.lpu.compiler.chain import Chain, Every, Tensor
from atoll.lpu.compiler.decoder.caches import VALUES_SIDE, Cache
from atoll.lpu.compiler.decoder.norm import Ones
from atoll.lpu.program import SIDES, Alu, Flow, Operand, Side

PEAK_OPERANDS = 8
"""Vectors of f32 of which the greatest is taken in a pass."""
PEAK_ROWS = 8
"""Rows that are read before the first of their peaks is back, maybe at slices that are read."""
UP = 4
"""Streams of an f32 vector."""
BURST = 16
"""Vectors of a pass: the first of them comes back to slices when the last has been read."""
SLOTS = 5
"""Slots whose masks a pass takes: more would need more ALUs than there are."""


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
class Turns:
    """Cosines, and sines for the lanes after and before, f16; by index of the position."""

    cosine: Tensor
    after: Tensor
    before: Tensor


@dataclass(frozen=True, slots=True)
class Tables:
    """Vectors that lie in memory. `slots`: 1 in the lanes of a slot. `past`: row n is 0 in lanes
    before n and very low after. All f16.
    """

    turns: Turns
    slots: tuple[Tensor, ...]
    past: Tensor
    ones: Ones


def rotate(
    builder: Builder, x: Tensor, turns: Turns, shift: int, slots: Sequence[Tensor], *, count: int
) -> list[Tensor]:
    """Rotated by the position, f16; of queries a tensor for each of some slots, the other lanes
    being zero, of keys (no slots) one.

    The lanes that are turned with each other are `shift` apart.
    """
    apart = (x, turns.cosine, turns.after, turns.before, *slots)
    made = [builder.memory.scratch("f16", count, apart=apart) for _ in slots or (None,)]
    for first in range(0, count, BURST):
        burst = range(first, min(first + BURST, count))
        for n in range(0, len(made), SLOTS):
            some = slice(n, n + SLOTS)
            _rotate(builder, x, made[some], turns, slots[some], shift=shift, burst=burst)
    return made


def _rotate(
    builder: Builder,
    x: Tensor,
    made: Sequence[Tensor],
    turns: Turns,
    slots: Sequence[Tensor],
    *,
    shift: int,
    burst: range,
) -> None:
    """Some vectors, into a tensor for each of some slots."""
    chain = builder.chain()
    first, count = burst.start, len(burst)
    there = builder.timing.switched(0)
    flows = [chain.streams(side, "out", 2) for side in SIDES]
    vector = chain.read(x, first=first, count=count)
    chain.vector([vector], [], [(0, "f16", flow) for flow in flows], at=0, count=count)
    turned = [
        chain.switch(flow, at=0, shift=by, count=count)
        for flow, by in zip(flows, (shift, -shift), strict=True)
    ]
    fixed = [turns.cosine, turns.after, turns.before, *slots]
    operands = [
        chain.read(x, at=there, first=first, count=count),
        *turned,
        *(chain.read(table, at=there, count=count, step=0) for table in fixed),
    ]
    steps = [Alu("mul", (0, 3)), Alu("mul", (1, 4)), Alu("mul", (2, 5))]
    n = len(operands)
    steps += [Alu("add", (n, n + 1)), Alu("add", (n + 3, n + 2))]
    value = n + 4
    wanted: list[int] = []
    for slot in range(len(made)):
        if slots:
            steps.append(Alu("mul", (value, 6 + slot)))
        steps.append(Alu("f16", (n + len(steps) - 1 if slots else value,)))
        wanted.append(n + len(steps) - 1)
    out = [chain.streams(tensor.side, "out", 2) for tensor in made]
    left = chain.vector(
        operands,
        steps,
        [(value, "f16", flow) for value, flow in zip(wanted, out, strict=True)],
        at=there,
        count=count,
    )
    for tensor, flow, at in zip(made, out, left, strict=True):
        chain.write(tensor, flow, at=at, first=first, count=count)
    builder.place(chain)


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
    rows = queries[0].count
    for b, tile in enumerate(cache.keys):
        side = SIDES[b % 2]
        builder.load(tile, side, since=since)
        block = builder.memory.scratch("f32", rows * len(queries))
        past = Tensor("f16", tables.past.side, tables.past.slices, tables.past.address, 1)
        past.index = f"block {b}"
        for slot, query in enumerate(queries):
            for first in range(0, rows, BURST):
                burst = range(first, min(first + BURST, rows))
                # The first of all takes the tile out of the buffer.
                install = slot == first == 0
                _score(
                    builder, query, past, block, side, at=slot * rows, burst=burst, install=install
                )
        found.append(block)
    return found


def _score(
    builder: Builder,
    query: Tensor,
    past: Tensor,
    block: Tensor,
    side: Side,
    *,
    at: int,
    burst: range,
    install: bool,
) -> None:
    """Some vectors of queries times the keys of a block, into it from vector `at` on."""
    chain = builder.chain()
    every: Every = {"count": len(burst), "stride": builder.timing.row_cycles("f16")}
    vector = chain.read(query, first=burst.start, **every)
    out = chain.streams(side, "out", 2)
    chain.vector([vector], [], [(0, "f16", out)], at=0, **every)
    sums = chain.multiply(out, at=0, emit=True, install=install, **every)
    there = builder.timing.multiplied(0)
    mask = chain.read(past, at=there, step=0, **every)
    back = chain.streams(block.side, "out", UP)
    operands = [Operand(sums, "f32"), mask]
    [left] = chain.vector(operands, [Alu("add", (0, 1))], [(2, "f32", back)], at=there, **every)
    chain.write(block, back, at=left, first=at + burst.start, **every)
    _multiply(builder, chain, (side,), len(burst), install=install)


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
    peak = builder.memory.work("f32", blocks[0].count)
    # Any more would come back while the first streams are still taken.
    burst = builder.timing.switched(0)
    for first in range(0, peak.count, burst):
        _peaks(builder, blocks, peak, range(first, min(first + burst, peak.count)))
    return peak


def _peaks(builder: Builder, blocks: Sequence[Tensor], peak: Tensor, burst: range) -> None:
    """Of some heads; the lanes are turned against each other, by twice as many each time."""
    chain = builder.chain()
    first, count = burst.start, len(burst)
    operands = [chain.read(block, first=first, count=count) for block in blocks]
    turn = 0
    flows = [Flow(side, "out", 0, UP) for side in SIDES]
    steps, value = _tree(len(operands))
    results = [(value, "f32", flow) for flow in flows]
    at = chain.vector(operands, steps, results, at=0, count=count)[0]  # type: ignore[arg-type]
    width = 1
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
    chain.write(peak, flows[0], at=at, first=first, count=count)
    builder.place(chain)


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
    for b, block in enumerate(blocks):
        for slot in range(heads.slots):
            columns = (slot * heads.dim, heads.dim)
            builder.load(cache.values[b], VALUES_SIDE, columns=columns, since=since)
            builder.load(ones.on(other), other, columns=columns)
            last = b == len(blocks) - 1 and slot == heads.slots - 1
            for first in range(0, heads.rows, BURST):
                burst = range(first, min(first + BURST, heads.rows))
                scored = _part(block, slot * heads.rows), _part(peak, slot * heads.rows)
                _mix(builder, scored, into, burst, begins=b == slot == 0, emit=last)


def _mix(
    builder: Builder,
    scored: tuple[Tensor, Tensor],
    into: Tensor,
    burst: range,
    *,
    begins: bool,
    emit: bool,
) -> None:
    """Exponentials of some scores less their greatest, times values and times ones."""
    sides = (VALUES_SIDE, SIDES[1] if SIDES[0] == VALUES_SIDE else SIDES[0])
    stride = builder.timing.row_cycles("f16")
    every: Every = {"count": len(burst), "stride": stride}
    chain = builder.chain()
    operands = [chain.read(t, first=burst.start, **every) for t in scored]
    flows = [chain.streams(side, "out", 2) for side in sides]
    steps = [Alu("sub", (0, 1)), Alu("exp", (2,)), Alu("f16", (3,))]
    results = [(4, "f16", flow) for flow in flows]
    at = chain.vector(operands, steps, results, at=0, **every)[0]  # type: ignore[arg-type]
    install = burst.start == 0
    sums = [
        chain.multiply(
            flow, at=at, emit=emit, install=install, clear=begins, row=burst.start, **every
        )
        for flow in flows
    ]
    if emit:
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
        sums_f32 = [Operand(flow, "f32") for flow in sums]
        [left] = chain.vector(sums_f32, divided, [(6, "f16", out)], at=there, **every)
        chain.write(into, out, at=left, first=burst.start, **every)
    _multiply(builder, chain, sides, len(burst), install=install, at=at)


def _part(tensor: Tensor, first: int) -> Tensor:
    """Its vectors from one on."""
    kept = (tensor.address + first, tensor.count - first, tensor.there[first:])
    return Tensor(tensor.number, tensor.side, tensor.slices, *kept)
