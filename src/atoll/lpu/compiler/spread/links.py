"""Transfers between chips that do different things, and sums of what arrives.

Each chip has a board of its own. All clocks are one, so that what several chips do together is
a chain on each of them with one beginning: the first phase in which all boards have room.

A vector of numbers of several bytes crosses a link byte by byte: its streams come one after the
other, each holding the link for the cycles of a vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from atoll.domain.errors import BadRequest
from atoll.lpu.compiler.board import Board, Need
from atoll.lpu.compiler.chain import LATER, Chain, Tensor
from atoll.lpu.program import (
    NUMBER_BYTES,
    Alu,
    Flow,
    Instruction,
    Load,
    Multiply,
    Number,
    Read,
    Receive,
    Routine,
    Send,
    Switch,
    Vector,
    Write,
)
from atoll.lpu.timing import Timing


@dataclass(frozen=True, slots=True)
class Streams:
    """Streams of each side for transfers and sums: outward to links, inward from them (as many
    as an edge has for links at most), and the first of those on which sums leave.
    """

    outward: tuple[int, ...] = (0, 1, 2, 3)
    inward: tuple[int, ...] = (0, 1, 2, 3)
    sums: int = 8


@dataclass(frozen=True, slots=True)
class Arrival:
    """Where vectors go: to a tensor of another chip, from vector `first` on.

    `lane` tells links between the same two chips apart. They come on the tensor's side, on
    number `stream` of the streams for that.
    """

    chip: int
    target: Tensor
    first: int = 0
    lane: int = 0
    stream: int = 0


class Fabric:
    """Chips of a routine in the making, each with its board and its instructions."""

    def __init__(self, timing: Timing, chips: int, streams: Streams | None = None) -> None:
        self.timing = timing
        self.streams = streams or Streams()
        for some in (self.streams.outward, self.streams.inward):
            assert len(some) <= timing.assumed.link_streams
        self.boards = [Board() for _ in range(chips)]
        self.instructions: list[list[Instruction]] = [[] for _ in range(chips)]
        self.link_cycles_used = 0

    def place(self, chains: Mapping[int, Chain], ready: int = 0) -> int:
        """Put chains of several chips where all have room; returns the phase of the beginning."""
        begin = max(ready, *(chain.earliest for chain in chains.values()))
        sure = 0
        while sure < len(chains):
            for chip, chain in chains.items():
                found = self.boards[chip].first(begin, chain.needs)
                sure = 1 if found > begin else sure + 1
                begin = found
                if sure >= len(chains):
                    break
        for chip, chain in chains.items():
            at = chain.place(self.boards[chip], begin)
            assert at == begin
            self.instructions[chip] += chain.instructions
        return begin

    def begin(self, chip: int, board: Board, instructions: Sequence[Instruction]) -> None:
        """What a chip does besides, by instructions that are on a board already."""
        self.boards[chip] = board.copy()
        self.instructions[chip] = list(instructions)

    def period(self, number: Number) -> int:
        """Cycles that a vector of such numbers holds a link."""
        return NUMBER_BYTES[number] * self.timing.link_cycles

    def send(
        self,
        chip: int,
        tensor: Tensor,
        arrivals: Sequence[Arrival],
        *,
        first: int = 0,
        count: int = 1,
        stream: int = 0,
        ready: int = 0,
    ) -> int:
        """Vectors of a chip's tensor over one link, or the same over several at once.

        They leave on the tensor's side, on number `stream` of the streams for that. Returns the
        phase in which the first leaves.
        """
        one = self.timing.link_cycles
        stride = len(tensor.slices) * one
        chains = {chip: Chain(self.timing)}
        outward = self.streams.outward
        flow = Flow(tensor.side, "out", outward[stream % len(outward)], 1)
        for n, byte in enumerate(_bytes(tensor)):
            chains[chip].read(byte, at=n * one, first=first, count=count, stride=stride, flow=flow)
        for a in arrivals:
            for n in range(len(tensor.slices)):
                chains[chip].send(
                    flow, at=n * one, to=a.chip, lane=a.lane, count=count, stride=stride
                )
            link = ("link", a.chip, a.lane)
            chains[chip].needs.append(Need(link, 1, self.timing.edge, count * stride))
            self.link_cycles_used += count * stride
        arrived = []
        for a in arrivals:
            chains[a.chip], parts = self._arrive(chip, a, count, stride)
            arrived.append((a, parts))
        begin = self.place(chains, ready)
        for a, parts in arrived:
            if not a.target.there:
                a.target.there[:] = [LATER] * a.target.count
            for n in range(a.first, a.first + count):
                a.target.there[n] = max(part.there[n] for part in parts)
        return begin

    def _arrive(
        self, source: int, arrival: Arrival, count: int, stride: int
    ) -> tuple[Chain, list[Tensor]]:
        chain = Chain(self.timing)
        parts = _bytes(arrival.target, apart=True)
        inward = self.streams.inward
        flow = Flow(arrival.target.side, "in", inward[arrival.stream % len(inward)], 1)
        for n, part in enumerate(parts):
            at = self.timing.received(n * self.timing.link_cycles)
            chain.receive(flow, at=at, source=source, lane=arrival.lane, count=count, stride=stride)
            chain.write(part, flow, at=at, first=arrival.first, count=count, stride=stride)
        return chain, parts

    def add(
        self,
        chip: int,
        terms: Sequence[tuple[Tensor, int]],
        target: Tensor,
        *,
        first: int = 0,
        count: int = 1,
        stride: int = 1,
    ) -> int:
        """The sum of tensors, each from a vector on, into a tensor from `first` on; f16 is summed
        in f32 and rounded once.

        Raises:
            BadRequest: More terms than the vector unit adds in one pass.
        """
        if len(terms) + (target.number == "f16") - 1 > self.timing.alus:
            raise BadRequest(f"{len(terms)} terms, and {self.timing.alus} ALUs to add them")
        chain = Chain(self.timing)
        operands = [
            chain.read(tensor, first=at, count=count, stride=stride) for tensor, at in terms
        ]
        values, steps = list(range(len(terms))), list[Alu]()
        while len(values) > 1:
            pairs = [values[i : i + 2] for i in range(0, len(values), 2)]
            values = []
            for pair in pairs:
                values.append(pair[0] if len(pair) == 1 else len(terms) + len(steps))
                if len(pair) == 2:
                    steps.append(Alu("add", tuple(pair)))
        if target.number == "f16":
            steps.append(Alu("f16", (values[0],)))
            values = [len(terms) + len(steps) - 1]
        flow = Flow(target.side, "out", self.streams.sums, len(target.slices))
        results = [(values[0], target.number, flow)]
        # The last ALUs: products take the first.
        alu = self.timing.alus - len(steps)
        burst = {"count": count, "stride": stride, "alu": alu}
        at = chain.vector(operands, steps, results, at=0, **burst)[0]
        chain.write(target, flow, at=at, first=first, count=count, stride=stride)
        return self.place({chip: chain})

    def routine(self, name: str) -> Routine:
        """What was built, of all chips; it ends when all that was written can be read."""
        code = [tuple(sorted(on, key=lambda i: i.at)) for on in self.instructions]
        ends = [ended(instruction, self.timing) for on in code for instruction in on]
        return Routine(name, tuple(code), max(ends))


def ended(instruction: Instruction, timing: Timing) -> int:
    """The cycle, by the clock of the middle, from which an instruction asks nothing of a chip
    any more, and what it wrote can be read.
    """
    end = instruction.end
    match instruction:
        case Read() | Write():
            toward = 1 if instruction.flow.way == "out" else -1
            last = max(toward * timing.slice_positions[s] for s in instruction.slices)
            if isinstance(instruction, Write):
                last += max(timing.assumed.memory_cycles - 1, 0)
            return end + last
        case Load():
            return end + timing.edge
        case Send():
            return end + timing.edge + timing.link_cycles - 1
        case Receive():
            return end - timing.edge
        case Vector():
            return end + max(instruction.depths()) * timing.assumed.alu_cycles
        case Switch():
            return end - instruction.at + instruction.result_at - timing.switch_position
        case Multiply():
            busy = end + timing.edge + timing.row_cycles(instruction.number) - 1
            if instruction.result is None:
                return busy
            return max(busy, end - instruction.at + instruction.result_at - timing.edge)


def _bytes(tensor: Tensor, *, apart: bool = False) -> list[Tensor]:
    """A tensor's bytes, lowest first, as tensors; `apart`: of which nothing is there yet."""
    return [
        Tensor(
            "int8",
            tensor.side,
            (number,),
            tensor.address,
            tensor.count,
            [] if apart else tensor.there,
            tensor.index,
            tensor.local,
        )
        for number in tensor.slices
    ]
