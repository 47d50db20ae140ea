"""The LPU as a machine: functional slices across a chip, streams between them, a clock.

Data travels along the chip, one stream register each cycle, and instructions up each
slice, one tile each cycle. So the time of everything follows from where it is. An instruction
whose operands are at register i and whose result is wanted at register j takes

    T = N + d_func + delta(j, i)

cycles: tiles of a slice, functional delay of the unit, distance of the registers (Abts et
al., "Think Fast", ISCA 2020, equation 4). Figures are in `data/`, each with its source.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Literal, TypeVar

import msgspec

from atoll.domain.errors import BadRequest
from atoll.forecast.names import ByName
from atoll.lpu.figures import Sourced, decode, published
from atoll.lpu.parts import (
    Clock,
    Control,
    Delay,
    Floor,
    Lanes,
    Links,
    Matrix,
    Memory,
    Place,
    Product,
    Streams,
    Switch,
    Totals,
    Vector,
)

Direction = Literal["westward", "eastward"]
Known = TypeVar("Known")

ASSUMED = "assumed"
"""The source of a delay that no source gives, and that somebody chose."""
DELAY_CYCLES_MAX = 1 << 20
TOTAL_DEVIATION_MAX = 0.05
"""How far what follows from the parts may be from a total that is published for the chip."""


class Chip(Sourced, frozen=True, kw_only=True):
    """A chip as far as it is published: None, or no entry, for what is not."""

    name: str
    aliases: tuple[str, ...] = ()
    clock: Clock | None = None
    lanes: Lanes | None = None
    memory: Memory | None = None
    streams: Streams | None = None
    floor: Floor | None = None
    matrix: Matrix | None = None
    vector: Vector | None = None
    switch: Switch | None = None
    control: Control | None = None
    links: Links | None = None
    delays: dict[str, Delay] = msgspec.field(default_factory=dict)
    totals: Totals | None = None

    @property
    def hertz(self) -> float:
        """Cycles a second of the shipped chip."""
        return published(self.clock, f"{self.name}: the clock").shipped

    @property
    def lane_count(self) -> int:
        """Lanes of a slice: elements of the longest vector."""
        lanes = published(self.lanes, f"{self.name}: the number of lanes")
        return lanes.superlanes * lanes.per_superlane

    @property
    def slice_bytes(self) -> int:
        """Bytes of a memory slice."""
        memory = published(self.memory, f"{self.name}: the memory's parts")
        lanes = published(self.lanes, f"{self.name}: the number of lanes")
        return memory.words * memory.word_bytes * lanes.superlanes

    @property
    def sram_bytes(self) -> float:
        """Bytes of the chip's memory."""
        if self.memory is not None:
            return self.memory.hemispheres * self.memory.slices * self.slice_bytes
        total = self.totals.sram if self.totals else None
        return published(total, f"{self.name}: the size of its memory")

    @property
    def sram_bytes_s(self) -> float:
        """Bytes a second that all banks read or write."""
        if self.memory is not None:
            m = self.memory
            return m.hemispheres * m.slices * m.banks * self.lane_count * self.hertz
        total = self.totals.sram_bandwidth if self.totals else None
        return published(total, f"{self.name}: the bandwidth of its memory")

    @property
    def stream_bytes_s(self) -> float:
        """Bytes a second that the streams of both ways carry past one place."""
        streams = published(self.streams, f"{self.name}: its streams")
        return 2 * streams.each_way * streams.lane_bytes * self.lane_count * self.hertz

    @property
    def fetch_bytes_s(self) -> float:
        """Bytes a second of instructions, where all queues fetch."""
        control = published(self.control, f"{self.name}: its instruction control")
        return control.queues * control.fetch_bytes * self.hertz

    @property
    def weight_bytes_s(self) -> float:
        """Bytes a second of weights into the matrix units of both edges."""
        return self.weight_bytes_cycle * self.hertz

    @property
    def weight_bytes_cycle(self) -> int:
        """Bytes of weights that the matrix units of both edges take in a cycle."""
        matrix = published(self.matrix, f"{self.name}: its matrix units")
        return 2 * matrix.load_streams * self.lane_count

    def load_cycles(self, planes: int) -> int:
        """Cycles in which the weights of so many planes enter, half of them at each edge; the
        way from memory comes on top.
        """
        matrix = published(self.matrix, f"{self.name}: its matrix units")
        if not 1 <= planes <= matrix.planes:
            raise BadRequest(f"{self.name} has {matrix.planes} matrix planes, and not {planes}")
        at_edge = math.ceil(planes / 2)
        edge_bytes = matrix.load_streams * self.lane_count
        return math.ceil(at_edge * matrix.rows * matrix.columns / edge_bytes)

    def product(self, number: str) -> Product:
        """What the matrix units do in a cycle with numbers of that format.

        Raises:
            BadRequest: They have no such format.
        """
        matrix = published(self.matrix, f"{self.name}: its matrix units")
        return _format(self, matrix.formats, number)

    def macs_cycle(self, number: str) -> int:
        """Multiplications with additions of all matrix units in a cycle."""
        matrix = published(self.matrix, f"{self.name}: its matrix units")
        product = self.product(number)
        return product.products * product.depth * matrix.columns

    def peak_ops_s(self, number: str) -> float:
        """Operations a second of the matrix units, a multiplication and an addition being two."""
        if self.matrix is not None:
            return 2 * self.macs_cycle(number) * self.hertz
        return _format(self, self.totals.peaks if self.totals else {}, number)

    @property
    def alus(self) -> int:
        """Vector ALUs of the chip."""
        vector = published(self.vector, f"{self.name}: its vector unit")
        return vector.rows * vector.columns * self.lane_count

    def at_figures(self) -> Chip:
        """The chip at the clock that its paper counts at, without the product's totals."""
        clock = published(self.clock, f"{self.name}: the clock")
        figures = published(clock.figures, f"{self.name}: the clock of its totals")
        return msgspec.structs.replace(
            self, clock=msgspec.structs.replace(clock, shipped=figures), totals=None
        )

    def places(self) -> Iterator[Place]:
        """All functional slices, from west to east."""
        floor = published(self.floor, f"{self.name}: the order of its slices")
        outward = [(part.unit, n) for part in floor.outward for n in range(part.slices)]
        yield from (Place(unit, "west", n) for unit, n in reversed(outward))
        yield Place(floor.middle, "middle")
        yield from (Place(unit, "east", n) for unit, n in outward)

    def position(self, place: Place) -> int:
        """Stream registers from the middle of the chip, negative in the west.

        Raises:
            BadRequest: The chip has no such place, or its order is not published.
        """
        floor = published(self.floor, f"{self.name}: the order of its slices")
        if place == Place(floor.middle, "middle"):
            return 0
        before = 0
        for part in floor.outward:
            if part.unit == place.unit and place.side != "middle":
                if 0 <= place.number < part.slices:
                    at = before + place.number // part.between_registers + 1
                    return at if place.side == "east" else -at
                break
            before += math.ceil(part.slices / part.between_registers)
        raise BadRequest(f"{self.name} has no slice {' '.join(map(str, place))}")

    def travel(self, start: Place, end: Place) -> tuple[Direction, int]:
        """Which way a stream goes from one slice to another, and in how many cycles."""
        streams = published(self.streams, f"{self.name}: its streams")
        steps = self.position(end) - self.position(start)
        return "eastward" if steps >= 0 else "westward", abs(steps) * streams.step_cycles

    def delay(self, unit: str) -> int:
        """Functional delay of a unit, in cycles.

        Raises:
            BadRequest: It is not published, and none was assumed.
        """
        found = self.delays.get(unit)
        if found is None:
            raise BadRequest(
                f"{self.name}: the functional delay of {unit} is not published",
                hint=f"assume one and say so: chip.assume({{{unit!r}: 4}})",
            )
        return found.cycles

    def assume(self, delays: Mapping[str, int]) -> Chip:
        """The chip with functional delays that no source gives, in cycles by unit.

        Raises:
            BadRequest: A delay is published, or no number of cycles.
        """
        taken = {unit: found for unit, found in self.delays.items() if found.source != ASSUMED}
        if known := sorted(taken.keys() & delays.keys()):
            raise BadRequest(f"{self.name}: the delay of {known[0]} is published")
        for unit, cycles in delays.items():
            if not 0 <= cycles <= DELAY_CYCLES_MAX:
                raise BadRequest(f"{self.name}: {unit} cannot take {cycles} cycles")
        chosen = {unit: Delay(cycles=n, source=ASSUMED) for unit, n in delays.items()}
        return msgspec.structs.replace(self, delays={**self.delays, **chosen})

    @property
    def assumed(self) -> tuple[str, ...]:
        """Units whose delays somebody chose: what is computed of them rests on that."""
        return tuple(sorted(u for u, found in self.delays.items() if found.source == ASSUMED))

    def instruction_cycles(self, unit: str, operands: Place, result: Place) -> int:
        """T = N + d_func + delta: from an instruction's issue until its result is whole at
        `result`, its operands being at `operands`.
        """
        lanes = published(self.lanes, f"{self.name}: the number of lanes")
        return lanes.superlanes + self.delay(unit) + self.travel(operands, result)[1]

    def vector_link_cycles(self) -> int:
        """Whole cycles that a vector occupies a link."""
        links = published(self.links, f"{self.name}: its links")
        return math.ceil(links.vector_s * self.hertz - 1e-9)

    def hop_cycles(self) -> int:
        """Whole cycles of a hop, memory to memory."""
        links = published(self.links, f"{self.name}: its links")
        return math.ceil(published(links.hop, f"{self.name}: a hop") * self.hertz - 1e-9)


def _format(chip: Chip, known: Mapping[str, Known], number: str) -> Known:
    found = known.get(number)
    if found is None:
        names = ", ".join(known) or "none are published"
        raise BadRequest(
            f"{chip.name} multiplies no matrices of {number!r}", hint=f"its formats: {names}"
        )
    return found


def parse_chip(text: str, *, source: str) -> Chip:
    """The chip that a TOML file describes.

    Raises:
        BadRequest: It is no TOML of this form, a figure is missing, has no unit or is absurd, or
            its parts do not fit each other or its totals.
    """
    chip = decode(text, Chip, source=source)
    for problem in _misfits(chip):
        raise BadRequest(f"{source}: {problem}")
    return chip


def _misfits(chip: Chip) -> Iterator[str]:
    """What cannot be of a chip whose parts are each possible."""
    memory, lanes, floor, matrix = chip.memory, chip.lanes, chip.floor, chip.matrix
    if memory and lanes and memory.word_bytes != lanes.per_superlane:
        yield f"words of {memory.word_bytes} bytes for {lanes.per_superlane} lanes of a tile"
    if memory and max(memory.reads, memory.writes) > memory.banks:
        yield f"more reads or writes in a cycle than {memory.banks} banks can answer"
    if floor:
        units = [floor.middle, *(part.unit for part in floor.outward)]
        if len(set(units)) < len(units):
            yield "a kind of slice stands at two places of the order"
        counts = {part.unit: part.slices for part in floor.outward}
        if memory and counts.get("mem") != memory.slices:
            yield f"{counts.get('mem')} memory slices of a side in the order, not {memory.slices}"
    if matrix and lanes and matrix.columns != chip.lane_count:
        yield f"matrix planes of {matrix.columns} columns for {chip.lane_count} lanes"
    if matrix and chip.streams and matrix.load_streams > chip.streams.each_way:
        yield f"weights on {matrix.load_streams} streams of {chip.streams.each_way}"
    for number, product in (matrix.formats if matrix else {}).items():
        if matrix and product.depth * product.number_bytes > matrix.rows:
            yield f"{number}: a product of depth {product.depth} exceeds a plane's rows"
    yield from _wrong_links(chip)
    yield from _wrong_totals(chip)


def _wrong_links(chip: Chip) -> Iterator[str]:
    links = chip.links
    if links is None:
        return
    if (links.inside or 0) + (links.outside or 0) > links.count:
        yield f"systems use more links than the chip's {links.count}"
    if links.vector_bytes and links.wire_bytes and links.wire_bytes < links.vector_bytes:
        yield f"a vector of {links.vector_bytes} bytes in {links.wire_bytes} on a link"
    if links.cycles and not links.cycles.least <= links.cycles.mean <= links.cycles.most:
        yield "the mean latency of a link is not between the least and the most"


def _wrong_totals(chip: Chip) -> Iterator[str]:
    totals = chip.totals
    if totals is None:
        return
    pairs = []
    if totals.sram is not None and chip.memory and chip.lanes:
        pairs.append(("memory", chip.sram_bytes, float(totals.sram)))
    if chip.matrix and chip.clock:
        pairs += [
            (number, chip.peak_ops_s(number), float(peak))
            for number, peak in totals.peaks.items()
            if number in chip.matrix.formats
        ]
    for what, derived, total in pairs:
        if abs(derived / total - 1) > TOTAL_DEVIATION_MAX:
            yield f"its parts make {derived:.4g} of {what}, and {total:.4g} is published"


@cache
def shipped_chips() -> ByName[Chip]:
    """The chips that this package carries."""
    folder = resources.files("atoll.lpu").joinpath("data")
    names = ("tsp.toml", "lp30.toml")
    texts = [folder.joinpath(name).read_text("utf-8") for name in names]
    return ByName("LPU", map(lambda text, name: parse_chip(text, source=name), texts, names))
