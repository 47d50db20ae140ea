"""What becomes of vectors in the vector unit: sums of a plane as they come, or rows of memory.

Streams are shared out by lanes, one for each of four planes, so that what is done for one is
not in the way of another: outward 0 and 1 carry rows to planes, 2 to 13 results, three a lane,
16 to 31 weights; inward 0 to 7 carry rows that cross the middle, 8 to 23 operands, four a
lane, 24 to 31 sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from atoll.lpu.compiler.chain import Chain, Tensor
from atoll.lpu.program import NUMBER_BYTES, Alu, Flow, Number, Operand, Side, Way

LANES = 4
OPERANDS = 8
OPERANDS_LANE = 4
RESULTS = 2
RESULTS_LANE = 3


@dataclass(frozen=True, slots=True)
class Target:
    """Where rows of a result go: `count` of them, every `every`-th from row `skip` on, into
    vectors of a tensor from `first` on.
    """

    tensor: Tensor
    first: int
    count: int
    skip: int = 0
    every: int = 1


@dataclass(slots=True)
class Emission:
    """A burst through the vector unit in the making.

    `first` is the phase of its first vector in the chain, `count` and `stride` as of a burst,
    `block` which rows of an item they are, `alu` the first of its ALUs, `lane` its streams.
    """

    chain: Chain
    first: int
    count: int
    stride: int
    alu: int
    lane: int
    block: int = 0
    sums: Operand | None = None
    _used: dict[tuple[Side, Way], int] = field(default_factory=dict)

    def streams(self, side: Side, way: Way, width: int) -> Flow:
        """Streams of its lane; where those are all taken, others that it has not yet."""
        base, each = (OPERANDS, OPERANDS_LANE) if way == "in" else (RESULTS, RESULTS_LANE)
        room = LANES * each
        used = self._used.get((side, way), 0)
        starts = [(self.lane * each + n) % room for n in range(room)]
        free = [n for n in starts if n + width <= room and not used >> n & ((1 << width) - 1)]
        assert free, "more operands or results than streams"
        flow = Flow(side, way, base + free[0], width)
        self._used[side, way] = used | ((1 << width) - 1) << free[0]
        return flow

    def operand(self, tensor: Tensor, first: int, *, step: int = 1) -> Operand:
        """Vectors of a tensor from `first` on, one beside each of the burst's."""
        return self.chain.read(
            tensor,
            at=self.first,
            first=first,
            count=self.count,
            stride=self.stride,
            step=step,
            flow=self.streams(tensor.side, "in", len(tensor.slices)),
        )

    def vector(
        self,
        operands: Sequence[Operand],
        steps: Iterable[Alu],
        results: Sequence[tuple[int, Number, Sequence[Target]]],
    ) -> None:
        """Steps on the operands; each result, the number of its value, goes to targets of one
        side.
        """
        flows = [
            self.streams(targets[0].tensor.side, "out", NUMBER_BYTES[number])
            for _, number, targets in results
        ]
        leave = self.chain.vector(
            operands,
            steps,
            [
                (value, number, flow)
                for (value, number, _), flow in zip(results, flows, strict=True)
            ],
            at=self.first,
            count=self.count,
            stride=self.stride,
            alu=self.alu,
        )
        for (_, _, targets), flow, at in zip(results, flows, leave, strict=True):
            for target in targets:
                self.chain.write(
                    target.tensor,
                    flow,
                    at=at + target.skip * self.stride,
                    first=target.first,
                    count=target.count,
                    stride=target.every * self.stride,
                )


Finish = Callable[[Emission], None]
"""Says what becomes of the sums, or the rows, of an emission."""


@dataclass(frozen=True, slots=True)
class Pass:
    """Rows of memory that go through the vector unit by themselves.

    It can begin when `inputs` are known; `alus` is how many steps it has.
    """

    inputs: tuple[Tensor, ...]
    count: int
    alus: int
    finish: Finish
    stride: int = 1
