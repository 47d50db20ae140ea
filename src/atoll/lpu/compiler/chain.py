"""Instructions that hang together: each so many cycles after the chain's beginning.

What one gives on streams the next takes, so that a chain as a whole begins in one phase, the
first in which everything it needs is free on the board and what it reads has been written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypedDict

from atoll.lpu.compiler.board import Board, Need
from atoll.lpu.program import (
    NUMBER_BYTES,
    Alu,
    Burst,
    Flow,
    Instruction,
    Load,
    Multiply,
    Number,
    Operand,
    Read,
    Receive,
    Result,
    Send,
    Side,
    Switch,
    Vector,
    Way,
    Write,
)
from atoll.lpu.timing import Timing

LATER = 1 << 40


@dataclass(slots=True)
class Tensor:
    """Vectors in memory: vector n is at `address + n` of as many slices as a number has bytes.

    `there`: cycle from which each vector can be read, or the same for all.
    """

    number: Number
    side: Side
    slices: tuple[int, ...]
    address: int
    count: int
    there: list[int] = field(default_factory=list)
    index: str = ""
    local: bool = False

    def byte(self, n: int) -> Tensor:
        """Byte n of its numbers, as a tensor of its own that is there when it is."""
        self.there = self.there or [-LATER] * self.count
        kept = (self.address, self.count, self.there, self.index, self.local)
        return Tensor("int8", self.side, self.slices[n : n + 1], *kept)

    def since(self, n: int) -> int:
        """The cycle from which vector n can be read."""
        return self.there[n] if self.there else -LATER


class Every(TypedDict):
    """Of a burst: vectors, and cycles between them."""

    count: int
    stride: int


class Chain:
    """Instructions whose phases are counted from the chain's own beginning."""

    def __init__(self, timing: Timing) -> None:
        self.timing = timing
        self.needs: list[Need] = []
        self.instructions: list[Instruction] = []
        self.earliest = -LATER
        self._alus = 0
        self._next: dict[tuple[Side, Way], int] = {}
        self._written: list[tuple[Tensor, int, Write]] = []

    def streams(self, side: Side, way: Way, width: int, first: int | None = None) -> Flow:
        """Streams that no other instruction of the chain has, of the lowest numbers free."""
        at = self._next.get((side, way), FIRST_STREAM[way]) if first is None else first
        if first is None:
            self._next[side, way] = at + width
        assert at + width <= self.timing.streams, "a chain asks for more streams than there are"
        return Flow(side, way, at, width)

    def read(
        self,
        tensor: Tensor,
        *,
        at: int = 0,
        first: int = 0,
        count: int = 1,
        stride: int = 1,
        step: int = 1,
        way: Way = "in",
        flow: Flow | None = None,
    ) -> Operand:
        """Vectors of a tensor from `first` on; with `step` 0 always the same."""
        flow = flow or self.streams(tensor.side, way, len(tensor.slices))
        burst = Read(
            at=at,
            count=count,
            stride=stride,
            flow=flow,
            slices=tensor.slices,
            address=tensor.address + first,
            step=step,
            index=tensor.index,
            local=tensor.local,
        )
        self._give(burst, flow)
        self._touch(burst, burst.slices)
        toward = 1 if way == "in" else -1
        far = max(toward * self.timing.slice_positions[s] for s in tensor.slices)
        # Most of what is read lies there before: then nothing has to be waited for.
        for n in range((count if step else 1) if tensor.there else 0):
            since = tensor.since(first + n * step)
            self.earliest = max(self.earliest, since + far - at - n * stride)
        return Operand(flow, tensor.number)

    def write(self, tensor: Tensor, flow: Flow, *, at: int, first: int = 0, **burst: int) -> None:
        """Vectors of a flow into a tensor from `first` on."""
        write = Write(
            at=at,
            flow=flow,
            slices=tensor.slices,
            address=tensor.address + first,
            index=tensor.index,
            local=tensor.local,
            **burst,
        )
        self._touch(write, write.slices)
        self.instructions.append(write)
        self._written.append((tensor, first, write))

    def load(self, flow: Flow, *, at: int, plane: int, number: Number, **burst: int) -> None:
        """Weights on a flow into the buffer of a plane."""
        load = Load(at=at, flow=flow, plane=plane, number=number, **burst)
        parts = ("load", flow.side)
        self.needs.append(Need(parts, planes(plane, number), at + self.timing.edge, load.end - at))
        self.instructions.append(load)

    def multiply(
        self,
        flow: Flow,
        *,
        at: int,
        plane: int = 0,
        number: Number = "f16",
        emit: bool,
        install: bool = True,
        clear: bool = True,
        **burst: int,
    ) -> Flow:
        """Vectors of a flow times the weights of a plane; results leave if `emit`."""
        four = self.timing.streams - 4 * (self.timing.planes - plane)
        flow_out = Flow(flow.side, "in", four, 4)
        multiply = Multiply(
            at=at,
            flow=flow,
            plane=plane,
            number=number,
            install=install,
            clear=clear,
            result=flow_out if emit else None,
            result_at=self.timing.multiplied(at) if emit else 0,
            **burst,
        )
        busy = multiply.end - 1 - at + self.timing.row_cycles(number)
        parts = ("plane", flow.side)
        self.needs.append(Need(parts, planes(plane, number), at + self.timing.edge, busy))
        self.instructions.append(multiply)
        if emit:
            self._needs_streams(flow_out, multiply.result_at, multiply)
        return flow_out

    def vector(
        self,
        operands: Sequence[Operand],
        steps: Iterable[Alu],
        results: Sequence[tuple[int, Number, Flow]],
        *,
        at: int,
        count: int = 1,
        stride: int = 1,
        alu: int | None = None,
    ) -> list[int]:
        """A pass through the vector unit; returns the phases in which results leave.

        Its steps are done by ALUs from number `alu` on, or by ones that no other of the chain has.
        """
        first = self._alus if alu is None else alu
        numbered = tuple(
            replace(step, alu=(first + n) % self.timing.alus) for n, step in enumerate(steps)
        )
        self._alus = first + len(numbered)
        vector = Vector(
            at=at,
            count=count,
            stride=stride,
            operands=tuple(operands),
            steps=numbered,
            results=tuple(Result(value, flow, number) for value, number, flow in results),
        )
        depths = vector.depths()
        delay = self.timing.assumed.alu_cycles
        for n, step in enumerate(numbered):
            begins = at + (depths[len(vector.operands) + n] - 1) * delay
            self.needs.append(Need("alu", 1 << step.alu, begins, count, stride))
        leave = [self.timing.left(vector, result.value) for result in vector.results]
        for result, phase in zip(vector.results, leave, strict=True):
            self._needs_streams(result.flow, phase, vector)
        self.instructions.append(vector)
        return leave

    def switch(
        self,
        flow: Flow,
        *,
        at: int,
        shift: int,
        count: int = 1,
        stride: int = 1,
        first: int | None = None,
    ) -> Operand:
        """Lanes of vectors turned by the switch unit; f32 if four streams wide, or f16."""
        result = self.streams(flow.side, "in", flow.width, first)
        turned = self.timing.switched(at)
        switch = Switch(
            at=at,
            count=count,
            stride=stride,
            flow=flow,
            result=result,
            result_at=turned,
            shift=shift,
        )
        self.needs.append(
            Need(("switch", flow.side), 1, at + self.timing.switch_position, count, stride)
        )
        self._needs_streams(result, turned, switch)
        self.instructions.append(switch)
        return Operand(result, "f32" if flow.width == NUMBER_BYTES["f32"] else "f16")

    def exchange(self, flow: Flow, inward: Flow, *, at: int, on: int) -> int:
        """A vector of one stream to the chip `on` further on, while one comes from as far back.

        Returns the phase in which it arrives.
        """
        self.needs.append(Need(("link", on), 1, at + self.timing.edge, self.timing.link_cycles))
        there = self.timing.received(at)
        receive = Receive(at=there, flow=inward, source=on)
        self._needs_streams(inward, there, receive)
        # The edge of a side takes so many vectors from links in a cycle.
        place = 1 << (on - 1) % self.timing.assumed.link_streams
        self.needs.append(Need(("links", flow.side), place, there))
        self.instructions += [Send(at=at, flow=flow, to=on), receive]
        return there

    def send(
        self, flow: Flow, *, at: int, to: int, lane: int = 0, count: int = 1, stride: int = 1
    ) -> None:
        """Vectors of one stream to another chip; the link and who receives are the caller's."""
        self.instructions.append(
            Send(at=at, count=count, stride=stride, flow=flow, to=to, lane=lane)
        )

    def receive(
        self, flow: Flow, *, at: int, source: int, lane: int = 0, count: int = 1, stride: int = 1
    ) -> None:
        """Vectors that come from another chip onto one stream."""
        self._give(
            Receive(at=at, count=count, stride=stride, flow=flow, source=source, lane=lane), flow
        )

    def place(self, board: Board, ready: int) -> int:
        """Put the chain on the board; returns the phase of its beginning."""
        # Slices read a vector some cycles before it is in the middle: not before cycle 0.
        soonest = -min(need.offset for need in self.needs)
        begin = board.use(max(ready, self.earliest, soonest), self.needs)
        for tensor, first, write in self._written:
            if not tensor.there:
                tensor.there = [LATER] * tensor.count
            toward = -1 if write.flow.way == "in" else 1
            late = max(toward * self.timing.slice_positions[s] for s in write.slices)
            for n in range(write.count):
                done = begin + write.at + n * write.stride + late
                tensor.there[first + n * write.step] = done + self.timing.assumed.memory_cycles
        self.instructions = [moved(i, begin) for i in self.instructions]
        return begin

    def _give(self, burst: Instruction, flow: Flow) -> None:
        self._needs_streams(flow, burst.at, burst)
        self.instructions.append(burst)

    def _needs_streams(self, flow: Flow, at: int, burst: Burst) -> None:
        parts = (flow.side, flow.way)
        self.needs.append(Need(parts, flow.mask, at, burst.count, burst.stride))

    def _touch(self, burst: Read | Write, slices: tuple[int, ...]) -> None:
        toward = -1 if burst.flow.way == "in" else 1
        masks: dict[int, int] = {}
        for s in slices:
            offset = burst.at + toward * self.timing.slice_positions[s]
            masks[offset] = masks.get(offset, 0) | 1 << s
        parts = ("memory", burst.flow.side)
        self.needs += [Need(parts, m, o, burst.count, burst.stride) for o, m in masks.items()]


FIRST_STREAM: dict[Way, int] = {"in": 8, "out": 0}
"""Streams of lower numbers bring weights to the vector unit."""


def planes(plane: int, number: Number) -> int:
    """Planes of a side that an instruction of that format takes, a bit each."""
    return 0b11 if number == "f16" else 1 << plane


def moved(instruction: Instruction, cycles: int) -> Instruction:
    """The same, so many cycles later."""
    if isinstance(instruction, Multiply | Switch):
        return replace(
            instruction, at=instruction.at + cycles, result_at=instruction.result_at + cycles
        )
    return replace(instruction, at=instruction.at + cycles)
