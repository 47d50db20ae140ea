"""What a product's blocks become: stored, or added to a vector that all chips of a group keep.

Chips of a group each have a part of the sum over a long vector. Block by block, part of it is
added up where it belongs and sent to all. Which blocks belong to a chip follows from how far on
it is, so that all chips do the same: with k chips, block j of a round of k goes to the chip j
further on. So chip c keeps the vector in its own order: place j of round q is block
(c + j) mod k of that round. Blocks that fill no round are sent to all, and added by all.
"""

from __future__ import annotations

from atoll.lpu.compiler.builder import Builder, Finish, Matrix
from atoll.lpu.compiler.chain import Chain, Tensor
from atoll.lpu.program import Alu, Flow, Operand, Side

LINK_STREAMS = 24
"""The first of the two streams of a side that vectors of f16 go to and come from links by."""


def order(blocks: int, chips: int, chip: int) -> list[int]:
    """Which block of the whole vector each place holds on a chip."""
    full = blocks // chips * chips
    rounds = [q * chips + (chip + j) % chips for q in range(blocks // chips) for j in range(chips)]
    return rounds + list(range(full, blocks))


def stored(matrix: Matrix, into: Tensor, *, first: int = 0) -> Finish:
    """Each block as it comes, scaled, into a tensor of f16 or f32 from a vector on."""
    done = first

    def finish(chain: Chain, sums: dict[Side, Operand], at: int) -> None:
        nonlocal done
        for n, total in enumerate(sums.values()):
            operands, steps = [total], list[Alu]()
            if matrix.scales:
                operands.append(chain.read(matrix.scales[n], at=at, first=(done - first) // 2))
                steps.append(Alu("mul", (0, 1)))
            if n:
                # Both sides' blocks come at once; their slices take one after the other.
                steps.append(Alu("add", (len(operands) if steps else 0, 0.0)))
            if into.number == "f16":
                steps.append(Alu("f16", (len(operands) + len(steps) - 1 if steps else 0,)))
            value = len(operands) + len(steps) - 1 if steps else 0
            out = chain.streams(into.side, "out", len(into.slices))
            [left] = chain.vector(operands, steps, [(value, into.number, out)], at=at)
            chain.write(into, out, at=left, first=done)
            done += 1

    return finish


def add_product(builder: Builder, x: Tensor, matrix: Matrix, residual: Tensor) -> None:
    """Add a product to a vector, over all chips of the group.

    Args:
        builder: The routine.
        x: f16, what a chip multiplies, its own part.
        matrix: A chip's rows, whose blocks of columns are in the chip's order.
        residual: f32, shape (matrix.width, 320) in the chip's order.
    """
    memory = builder.memory
    if builder.chips == 1:
        whole = memory.scratch("f32", matrix.width)
        builder.product(x, matrix, stored(matrix, whole))
        _add(builder, whole, residual, range(matrix.width))
        return
    part = memory.scratch("f16", matrix.width)
    builder.product(x, matrix, stored(matrix, part))
    chips = builder.chips
    rounds = matrix.width // chips
    others = range(1, chips)
    came = {j: memory.scratch("f16", matrix.width, part.side) for j in others}
    total = memory.scratch("f16", matrix.width, part.side)
    summed = {j: memory.scratch("f16", max(rounds, 1), part.side) for j in others}
    for q in range(rounds):
        for j in others:
            _send(builder, part, q * chips + j, {j: came[j]}, q * chips)
        _sum(builder, [part, *came.values()], total, q * chips)
        _send(builder, total, q * chips, summed, q)
    for n in range(rounds * chips, matrix.width):
        _send(builder, part, n, came, n)
        _sum(builder, [part, *came.values()], total, n)
    if rounds:
        _add(builder, total, residual, range(0, rounds * chips, chips))
        for j in others:
            # From the chip j back comes the block that is as far back in this chip's order.
            places = range(chips - j, rounds * chips, chips)
            _add(builder, summed[j], residual, places, dense=True)
    _add(builder, total, residual, range(rounds * chips, matrix.width))


def _send(builder: Builder, tensor: Tensor, n: int, into: dict[int, Tensor], place: int) -> None:
    """Vector n to chips further on, and to `place` what comes from as far back."""
    chain = builder.chain()
    at_once = builder.timing.assumed.link_streams
    for i, _ in enumerate(tensor.slices):
        for on, kept in into.items():
            # Those that come from more chips than the edge takes in a cycle come a cycle later.
            turn = (on - 1) // at_once if len(into) > 1 else 0
            at = i * builder.timing.link_cycles + turn
            flow = Flow(tensor.side, "out", LINK_STREAMS + i, 1)
            if (on - 1) % at_once == 0 or len(into) == 1:
                chain.read(tensor.byte(i), at=at, first=n, way="out", flow=flow)
            inward = Flow(tensor.side, "in", 8 + 2 * (on - 1) + i, 1)
            there = chain.exchange(flow, inward, at=at, on=on)
            chain.write(kept.byte(i), inward, at=there, first=place)
    builder.place(chain)


def _sum(builder: Builder, parts: list[Tensor], total: Tensor, n: int) -> None:
    chain = builder.chain()
    operands = [chain.read(part, first=n) for part in parts]
    steps = [Alu("add", (0, 1))]
    for i in range(2, len(operands)):
        steps.append(Alu("add", (len(operands) + i - 2, i)))
    value = len(operands) + len(steps) - 1
    out = chain.streams(total.side, "out", 2)
    steps.append(Alu("f16", (value,)))
    [left] = chain.vector(operands, steps, [(value + 1, "f16", out)], at=0)
    chain.write(total, out, at=left, first=n)
    builder.place(chain)


BURST = 16
"""Vectors that pass before the first of them comes back to slices that are still read."""


def _add(
    builder: Builder, total: Tensor, residual: Tensor, places: range, *, dense: bool = False
) -> None:
    """Vectors of a tensor, at the same places or one behind the other, to those of another."""
    for i in range(0, len(places), BURST):
        part = places[i : i + BURST]
        chain = builder.chain()
        first, step = (i, 1) if dense else (part.start, part.step)
        burst = {"at": 0, "count": len(part)}
        there = {"first": part.start, "step": part.step, "count": len(part)}
        operands = [
            chain.read(total, first=first, step=step, count=len(part)),
            chain.read(residual, first=part.start, step=part.step, count=len(part)),
        ]
        out = chain.streams(residual.side, "out", 4)
        [left] = chain.vector(operands, [Alu("add", (0, 1))], [(2, "f32", out)], **burst)
        chain.write(residual, out, at=left, **there)
        builder.place(chain)
