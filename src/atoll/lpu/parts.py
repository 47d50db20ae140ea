"""Parts of an LPU: memory, streams, functional units, links, as structs of published figures.

`machine.py` joins them to a chip and derives what follows from them; `data/` fills them.
Sources of the form: Abts et al., "Think Fast", ISCA 2020, and "A Software-defined Tensor
Streaming Multiprocessor", ISCA 2022.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import msgspec

from atoll.lpu.figures import Compute, Hertz, Rate, Seconds, Size, Sourced, published

Unit = Literal["vxm", "mem", "sxm", "mxm"]
Side = Literal["west", "middle", "east"]
Count = Annotated[int, msgspec.Meta(ge=1, le=1 << 24)]
Cycles = Annotated[int, msgspec.Meta(ge=0, le=1 << 20)]


class Place(NamedTuple):
    """A functional slice: `number` counts those of its kind and side outward from the middle."""

    unit: Unit
    side: Side
    number: int = 0


class Clock(Sourced, frozen=True, kw_only=True):
    """`shipped` is what products run at, `figures` what a paper's totals are counted at."""

    shipped: Hertz
    figures: Hertz | None = None


class Lanes(Sourced, frozen=True, kw_only=True):
    """A slice is `superlanes` tiles high; a tile works on `per_superlane` elements at once."""

    superlanes: Count
    per_superlane: Count


class Memory(Sourced, frozen=True, kw_only=True):
    """SRAM. A word of a tile has a byte for each of its lanes. In one cycle a slice makes so many
    `reads` and `writes`, each in another bank.
    """

    hemispheres: Count
    slices: Count
    words: Count
    word_bytes: Count
    banks: Count
    reads: Count
    writes: Count


class Streams(Sourced, frozen=True, kw_only=True):
    """Stream registers: so many `each_way` at every place, `lane_bytes` of a lane each, which
    move on to the next place in `step_cycles`.
    """

    each_way: Count
    lane_bytes: Count
    step_cycles: Count


class Slices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Slices of one kind beside each other on one side of the chip; so many of them lie between
    two stream registers.
    """

    unit: Unit
    slices: Count
    between_registers: Count = 1


class Floor(Sourced, frozen=True, kw_only=True):
    """The order of slices across the chip: one in the middle, others outward to both edges."""

    middle: Unit
    outward: tuple[Slices, ...]


class Product(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the matrix units do each cycle with numbers of a format: so many `products` of a
    vector of `depth` and a matrix of `depth` rows and as many columns as a plane has.
    """

    number_bytes: Count
    products: Count
    depth: Count
    accumulator: str


class Matrix(Sourced, frozen=True, kw_only=True):
    """Matrix units. `load_streams` come in at each edge with weights; all planes are loaded
    within `load_cycles_max`, the ways from memory included.
    """

    planes: Count
    rows: Count
    columns: Count
    load_streams: Count
    load_cycles_max: Count | None = None
    formats: dict[str, Product]
    instructions: tuple[str, ...] = ()


class Vector(Sourced, frozen=True, kw_only=True):
    """Vector unit: ALUs of each lane, `rows` x `columns` of them chained."""

    rows: Count
    columns: Count
    formats: tuple[str, ...]
    instructions: tuple[str, ...] = ()


class Switch(Sourced, frozen=True, kw_only=True):
    """Switch units. `transpose` and `rotations`: sizes of squares that they can turn."""

    transpose: Count
    rotations: tuple[int, ...]
    instructions: tuple[str, ...] = ()


class Control(Sourced, frozen=True, kw_only=True):
    """Instruction control: independent queues, and what each can fetch in a cycle."""

    queues: Count
    fetch_bytes: Count
    instructions: tuple[str, ...] = ()


class LinkCycles(Sourced, frozen=True, kw_only=True):
    """Latency of one link, in cycles, as measured."""

    least: Cycles
    mean: float
    most: Cycles
    deviation: float


class Links(Sourced, frozen=True, kw_only=True):
    """Chip-to-chip links. `count` on the chip, of which systems use `inside` a node and `outside`
    of it; `lane_rate` each way. A vector of `vector_bytes` goes as `wire_bytes`. `hop` is the
    pipelined latency from memory to memory of neighbours.
    """

    count: Count
    lanes: Count
    lane_rate: Rate
    inside: Count | None = None
    outside: Count | None = None
    vector_bytes: Count | None = None
    wire_bytes: Count | None = None
    hop: Seconds | None = None
    cycles: LinkCycles | None = None

    @property
    def bytes_s(self) -> float:
        """Bytes a second on the wire of one link, each way."""
        return self.lanes * self.lane_rate

    @property
    def vector_s(self) -> float:
        """Seconds that a vector occupies a link."""
        return published(self.wire_bytes, "the form of a vector on a link") / self.bytes_s

    @property
    def efficiency(self) -> float:
        """Share of the wire that is data."""
        what = "the form of a vector on a link"
        return published(self.vector_bytes, what) / published(self.wire_bytes, what)


class Delay(Sourced, frozen=True, kw_only=True):
    """Functional delay of a unit."""

    cycles: Cycles


class Totals(Sourced, frozen=True, kw_only=True):
    """What is published of the chip as a whole."""

    sram: Size | None = None
    sram_bandwidth: Rate | None = None
    peaks: dict[str, Compute] = msgspec.field(default_factory=dict)
