"""A schedule: instructions of chips, each with the cycle in which it acts.

Time is kept as a phase. What flows on a side of the chip moves one stream register a cycle,
towards the middle (`in`) or towards the edge (`out`); so a vector that is at position p in
cycle t has the phase

    in: t + p        out: t - p

all along its way: the cycle in which it is, or would be, in the middle. Two instructions
meet on a stream if they name the same side, way, stream and phase, and the one that gives
stands before the one that takes. `timing.py` has the positions and delays.

An instruction is a burst: `count` vectors, one every `stride` cycles. Numbers of several bytes
take as many streams beside each other, lowest byte first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Side = Literal["west", "east"]
Way = Literal["in", "out"]
Number = Literal["int8", "int32", "f16", "f32"]
AluOp = Literal[
    "add", "sub", "mul", "max", "min", "exp", "tanh", "rsqrt", "relu", "int8", "int32", "f16", "f32"
]
"""What a vector ALU does in a pass; names of formats convert to them, integers by rounding to
the nearest even number and holding it within the format."""

SIDES: tuple[Side, Side] = ("west", "east")
NUMBER_BYTES: dict[Number, int] = {"int8": 1, "int32": 4, "f16": 2, "f32": 4}


@dataclass(frozen=True, slots=True)
class Flow:
    """Streams `first` to `first + width - 1` of a side that flow one way."""

    side: Side
    way: Way
    first: int
    width: int

    @property
    def mask(self) -> int:
        """A bit for each stream."""
        return ((1 << self.width) - 1) << self.first

    def part(self, first: int, width: int) -> Flow:
        """Some of its streams, counted within it."""
        return Flow(self.side, self.way, self.first + first, width)


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """What all instructions have: phase of the first vector, vectors, cycles between them."""

    at: int
    count: int = 1
    stride: int = 1

    @property
    def end(self) -> int:
        """The phase after the last vector's."""
        return self.at + (self.count - 1) * self.stride + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Memory(Burst):
    """`slices[i]` serves stream i of the flow. Vector n is at `address + n * step`, plus the
    routine's base if `local`, plus what is given for `index` when the program runs: an
    integer, or one for each slice.
    """

    flow: Flow
    slices: tuple[int, ...]
    address: int
    step: int = 1
    index: str = ""
    local: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Read(_Memory):
    """Slices of a side put words of 320 bytes on streams."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Write(_Memory):
    """Slices of a side keep what passes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load(Burst):
    """A plane (of f16: the pair of planes of a side, `plane` 0) takes weights into its buffer.

    Column by column of the matrix: the vector of column j has weight k of it in lane k. With w
    numbers beside each other on the flow, cycle n brings columns n * w to n * w + w - 1, counted
    from `column`. Columns that it does not bring are zeros.
    """

    flow: Flow
    plane: int
    number: Number
    column: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Multiply(Burst):
    """Vectors times the weights of a plane, into its accumulators.

    With the first vector, what was loaded takes the place of the plane's weights if `install`.
    Vector n adds its products (lane j: column j) to accumulator `row + n`, or begins it anew if
    `clear`. If there is a `result`, the accumulator goes out on it, int32 or f32 in four
    streams, `result_at` being the phase of the first.
    """

    flow: Flow
    plane: int
    number: Number
    install: bool = True
    row: int = 0
    clear: bool = True
    result: Flow | None = None
    result_at: int = 0


@dataclass(frozen=True, slots=True)
class Operand:
    """A number of each lane, from streams that come to the middle."""

    flow: Flow
    number: Number


@dataclass(frozen=True, slots=True)
class Alu:
    """One vector ALU: `arguments` are numbers of values, or constants.

    Values of a vector instruction are its operands and then its steps, counted from 0.
    """

    op: AluOp
    arguments: tuple[int | float, ...]
    alu: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """A value that goes out on streams, as a number of the format that it has."""

    value: int
    flow: Flow
    number: Number


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector(Burst):
    """The vector unit: chained ALUs in the middle, the same for every vector of the burst.

    Integer arguments of a step are values and floats are constants. A step begins when the last
    of its values is there, and takes the delay of an ALU; a result leaves when it is there.
    """

    operands: tuple[Operand, ...]
    steps: tuple[Alu, ...]
    results: tuple[Result, ...]

    def depths(self) -> tuple[int, ...]:
        """ALUs that stand one behind the other up to each value, operands included."""
        found = [0] * len(self.operands)
        for step in self.steps:
            values = [a for a in step.arguments if isinstance(a, int)]
            found.append(1 + max((found[v] for v in values), default=0))
        return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch(Burst):
    """The switch unit of a side turns vectors back: lane i of the result is lane
    (i + `shift`) mod lanes of what came, on as many streams.
    """

    flow: Flow
    result: Flow
    result_at: int
    shift: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Send(Burst):
    """Vectors of one stream go over a link to another chip; `lane` tells links between the
    same two chips apart.
    """

    flow: Flow
    to: int
    lane: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Receive(Burst):
    """Vectors that another chip sent come onto a stream."""

    flow: Flow
    source: int
    lane: int = 0


Instruction = Read | Write | Load | Multiply | Vector | Switch | Send | Receive


@dataclass(frozen=True, slots=True)
class Routine:
    """Instructions of a few chips, counted from 0, that take `cycles` together.

    All that they do lies in cycles 0 to `cycles - 1`, by the clock of each chip's middle.
    """

    name: str
    chips: tuple[tuple[Instruction, ...], ...]
    cycles: int


@dataclass(frozen=True, slots=True)
class Step:
    """A routine run on some chips: chip i of the routine is `chips[i]`, its phases begin at
    `at`, its local addresses at `base`.
    """

    routine: int
    chips: tuple[int, ...]
    at: int
    base: int = 0
    layer: int = -1


@dataclass(frozen=True, slots=True)
class Block:
    """Words that lie in memory before the program starts: rows of `tensor` from `row` on.

    `tensor` names what `data.py` lays out: shape (words of a slice, slices, 320) bytes.
    """

    chip: int
    side: Side
    slices: tuple[int, ...]
    address: int
    words: int
    tensor: str


@dataclass(frozen=True, slots=True)
class Program:
    """A whole schedule: steps of routines on chips, and what lies in memory before."""

    chips: int
    routines: tuple[Routine, ...]
    steps: tuple[Step, ...]
    blocks: tuple[Block, ...] = ()

    @property
    def cycles(self) -> int:
        """Cycles from the first step to the end of the last."""
        return max((s.at + self.routines[s.routine].cycles for s in self.steps), default=0)

    def on(self, chip: int) -> Iterator[tuple[Step, Instruction]]:
        """Everything that a chip does, step by step."""
        for step in self.steps:
            for i, at in enumerate(step.chips):
                if at == chip:
                    yield from ((step, found) for found in self.routines[step.routine].chips[i])
