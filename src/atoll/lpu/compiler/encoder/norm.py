"""Layer norm of rows of up to four tiles: sums by a product with a matrix of ones.

The vector unit adds a row's tiles and their squares, so that one f16 product of each is left:
the pair of planes of one side gives the mean in all lanes, that of the other the mean of the
squares. Both products and what is before and after them are one chain without a stop: a row
every two cycles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from atoll.lpu.compiler.chain import Chain, Tensor
from atoll.lpu.compiler.rows.emission import Emission, Pass, Target
from atoll.lpu.compiler.rows.items import Key, known
from atoll.lpu.compiler.rows.planes import Planes
from atoll.lpu.compiler.rows.room import LOAD_STREAMS, Room, Weights
from atoll.lpu.program import NUMBER_BYTES, SIDES, Alu, Flow, Number, Operand, Side
from atoll.lpu.timing import Timing

PAIRED = 2
"""Tiles of a pass that applies a norm."""


def ones(room: Room) -> dict[Side, Weights]:
    """A matrix of one number on each side: the same column again and again."""
    columns = LOAD_STREAMS // NUMBER_BYTES["f16"]
    found = {}
    for side in SIDES:
        held = room.weights("mean", (), columns=columns, number="f16", side=side, local=False)
        words = -(-room.timing.columns // columns)
        found[side] = Weights(held.tensors, "f16", 0, words, step=0)
    return found


@dataclass(slots=True)
class Statistics:
    """Work of all planes: mean and reciprocal deviation of rows, f32, the same in all lanes."""

    timing: Timing
    tiles: Sequence[Tensor]
    ones: dict[Side, Weights]
    mean: Tensor
    deviation: Tensor
    epsilon: float
    part: str
    number: Number = "f16"

    def ready(self) -> bool:
        """As of work."""
        return all(known(tensor) for tensor in self.tiles)

    def step(self, planes: Planes, keys: Sequence[Key]) -> bool:
        """As of work; there is but one."""
        for side in SIDES:
            planes.load(self.ones[side], [(side, 0), (side, 1)])
        ready = max(planes.multiply_ready(key, install=True) for key in keys)
        chain = Chain(self.timing)
        phases = self._chain(chain)
        begin = planes.place(chain, max(ready - min(phases.values()), 0))
        for side, at in phases.items():
            pair = [(side, n) for n in range(self.timing.planes)]
            rows = self.tiles[0].count
            planes.multiplied(pair, begin + at, rows, install=True, part=self.part)
        return True

    def _chain(self, chain: Chain) -> dict[Side, int]:
        """Returns the phase of the first vector of each side's product."""
        count, stride = self.tiles[0].count, self.timing.row_cycles("f16")
        first = Emission(chain, 0, count, stride, 0, 0)
        operands = [first.operand(tensor, 0) for tensor in self.tiles]
        steps, values = _sums(len(operands))
        flows = [Flow(side, "out", 0, 2) for side in SIDES]
        leave = chain.vector(
            operands,
            steps,
            [(value, "f16", flow) for value, flow in zip(values, flows, strict=True)],
            at=0,
            count=count,
            stride=stride,
        )
        sums = []
        for flow, at in zip(flows, leave, strict=True):
            result = chain.multiply(flow, at=at, emit=True, count=count, stride=stride)
            sums.append(Operand(result, "f32"))
        after = Emission(
            *(chain, self.timing.multiplied(leave[0]), count, stride, len(steps)), lane=0
        )
        variance = [
            Alu("mul", (0, 0)),
            Alu("sub", (1, 2)),
            Alu("add", (3, self.epsilon)),
            Alu("rsqrt", (4,)),
        ]
        results: list[tuple[int, Number, list[Target]]] = [
            (0, "f32", [Target(self.mean, 0, count)]),
            (5, "f32", [Target(self.deviation, 0, count)]),
        ]
        after.vector(sums, variance, results)
        return dict(zip(SIDES, leave, strict=True))


def _sums(tiles: int) -> tuple[list[Alu], list[int]]:
    """Steps that add so many operands, and their squares, as f16 that are there together."""
    steps: list[Alu] = []
    depths = dict.fromkeys(range(tiles), 0)

    def add(op: Alu) -> int:
        steps.append(op)
        value = tiles + len(steps) - 1
        depths[value] = 1 + max(depths[a] for a in op.arguments if isinstance(a, int))
        return value

    def tree(values: list[int]) -> int:
        while len(values) > 1:
            values = [*values[2:], add(Alu("add", (values[0], values[1])))]
        return values[0]

    squares = tree([add(Alu("mul", (n, n))) for n in range(tiles)])
    # One behind the other: so these need no steps that only wait for the squares.
    plain = 0
    for n in range(1, tiles):
        plain = add(Alu("add", (plain, n)))
    while depths[plain] < depths[squares]:
        plain = add(Alu("f32", (plain,)))
    return steps, [add(Alu("f16", (plain,))), add(Alu("f16", (squares,)))]


@dataclass(frozen=True, slots=True)
class Norm:
    """What a layer norm has of its own: factors and offsets of each tile, f16, and the factor by
    which its int8 copy is made.
    """

    gains: list[Tensor]
    offsets: list[Tensor]
    out_scale: float
    epsilon: float = 1e-12

    def add(
        self,
        planes: Planes,
        room: Room,
        y: Sequence[Sequence[Tensor]],
        ones: dict[Side, Weights],
        out: Sequence[Sequence[tuple[Tensor, Tensor]]],
        *,
        part: str,
    ) -> None:
        """Norms of `y[block][tile]`, f16, to `out[block][tile]`: f16, and int8."""
        for tiles, targets in zip(y, out, strict=True):
            mean, deviation = (
                room.rows("f32", tiles[0].count, side=side, slot=1) for side in SIDES
            )
            planes.add_joint(
                Statistics(planes.timing, tiles, ones, mean, deviation, self.epsilon, part)
            )
            for n in range(0, len(tiles), PAIRED):
                self._apply(
                    planes, tiles, (mean, deviation), targets, range(n, min(n + PAIRED, len(tiles)))
                )

    def _apply(
        self,
        planes: Planes,
        tiles: Sequence[Tensor],
        statistics: tuple[Tensor, Tensor],
        targets: Sequence[tuple[Tensor, Tensor]],
        which: range,
    ) -> None:
        count = tiles[0].count

        def emit(emission: Emission) -> None:
            operands = [emission.operand(tensor, 0) for tensor in statistics]
            for n in which:
                operands.append(emission.operand(tiles[n], 0))
                operands.append(emission.operand(self.gains[n], 0, step=0))
                operands.append(emission.operand(self.offsets[n], 0, step=0))
            steps: list[Alu] = []
            results: list[tuple[int, Number, list[Target]]] = []
            for i, n in enumerate(which):
                y, gain, offset = (2 + 3 * i + part for part in range(3))
                at = len(operands) + len(steps)
                steps += [
                    Alu("sub", (y, 0)),
                    Alu("mul", (at, 1)),
                    Alu("mul", (at + 1, gain)),
                    Alu("add", (at + 2, offset)),
                    Alu("f16", (at + 3,)),
                    Alu("mul", (at + 4, self.out_scale)),
                    Alu("int8", (at + 5,)),
                ]
                whole, short = targets[n]
                results.append((at + 4, "f16", [Target(whole, 0, count)]))
                results.append((at + 6, "int8", [Target(short, 0, count)]))
            emission.vector(operands, steps, results)

        inputs = (*statistics, *(tiles[n] for n in which))
        planes.add_pass(Pass(inputs, count, 7 * len(which), emit))
