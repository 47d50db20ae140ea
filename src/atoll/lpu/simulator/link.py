"""A routine made ready to run: who takes what from whom, and one order for all of it."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, assert_never

import numpy as np

from atoll.domain.errors import BadRequest
from atoll.lpu.program import (
    NUMBER_BYTES,
    Flow,
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
from atoll.lpu.simulator.hazards import Access, Hazards, Offset, order_accesses
from atoll.lpu.simulator.planes import Products, crossed, follow_weights
from atoll.lpu.simulator.streams import Given, Output, Streams, Taken
from atoll.lpu.simulator.units import Unit, check, cycle, places, unit_of, vectors
from atoll.lpu.timing import Timing

Edges = Iterable[tuple[int, int]]


class Lane(NamedTuple):
    """A stream of a chip."""

    chip: int
    side: str
    way: str
    stream: int

    def __str__(self) -> str:
        return f"stream {self.stream} of the {self.side}, {self.way}"


class Wire(NamedTuple):
    """A link from chip to chip of a routine."""

    source: int
    to: int
    lane: int

    def __str__(self) -> str:
        return f"link {self.lane} from chip {self.source} to chip {self.to}"


@dataclass(frozen=True, slots=True)
class Linked:
    """A routine that can run.

    `units` are its instructions, or their vectors; `order` all of their numbers; `taken` what
    each takes, flow by flow; `weights` the load of each product; `last` which outputs nobody
    takes any more after each unit; `rank` when each comes in the order.
    """

    units: tuple[Unit, ...]
    order: tuple[int, ...]
    taken: Mapping[int, tuple[Taken, ...]]
    weights: Mapping[int, int]
    last: Mapping[int, tuple[int, ...]]
    doubtful: tuple[tuple[Access, Access], ...]
    rank: tuple[int, ...]


def link(
    routine: Routine, timing: Timing, bases: range = range(1), offset: Offset | None = None
) -> Linked:
    """Link a routine.

    Args:
        routine: Its instructions.
        timing: Positions and delays.
        bases: From the least to the greatest base with which it runs.
        offset: What one run adds to addresses, where it matters for the order.

    Raises:
        BadRequest: The chip cannot do it, or something is taken that nobody gave.
    """
    units = [unit_of(c, found) for c, chip in enumerate(routine.chips) for found in chip]
    for unit in units:
        check(unit, timing, len(routine.chips), routine.cycles)
    _check_links(units, timing)
    units = _divided(units, crossed(dict(enumerate(units))))
    while True:
        numbered = dict(enumerate(units))
        taken = _match(numbered, timing)
        products = follow_weights(numbered, timing)
        hazards = order_accesses(numbered, timing, bases, offset)
        edges = set(_edges(taken, products, hazards))
        order, rest = _sorted(_begins(units, timing), edges)
        if not rest:
            break
        # Bursts that wait for each other: one takes what another gave to memory while both last.
        divisible = {u for u in rest if not units[u].whole}
        assert divisible, "vectors depend on earlier cycles alone"
        units = _divided(units, divisible)
    return Linked(
        units=tuple(units),
        order=tuple(order),
        taken=taken,
        weights=products.weights,
        last=_last_uses(order, taken, products),
        doubtful=hazards.doubtful,
        rank=tuple(sorted(range(len(order)), key=order.__getitem__)),
    )


def _divided(units: Sequence[Unit], some: set[int]) -> list[Unit]:
    return [v for u, unit in enumerate(units) for v in (vectors(unit) if u in some else (unit,))]


def _check_links(units: Iterable[Unit], timing: Timing) -> None:
    """Whether all that is sent is received when it arrives, and nothing else is."""
    arrive: dict[Wire, list[int]] = defaultdict(list)
    received: dict[Wire, list[int]] = defaultdict(list)
    for unit in units:
        found = unit.instruction
        phases = range(found.at, found.end, found.stride)
        if isinstance(found, Send):
            wire = Wire(unit.chip, found.to, found.lane)
            arrive[wire] += [timing.received(phase) for phase in phases]
        elif isinstance(found, Receive):
            received[Wire(found.source, unit.chip, found.lane)] += phases
    for wire in sorted(arrive.keys() | received.keys()):
        here, there = sorted(arrive[wire]), sorted(received[wire])
        if here != there:
            raise BadRequest(
                f"{wire}: vectors arrive at phases {_some(here)} and are received at {_some(there)}"
            )


def _some(phases: Sequence[int]) -> str:
    shown = ", ".join(map(str, phases[:8])) or "none"
    return f"{shown} and {len(phases) - 8} more" if len(phases) > 8 else shown


def _gives(unit: Unit, timing: Timing) -> Iterator[tuple[Flow, int, int, Number | None]]:
    """Flows that a unit gives, the phase and the place of the first vector, and the format."""
    found = unit.instruction
    match found:
        case Vector():
            for result in found.results:
                at = timing.left(found, result.value)
                yield result.flow, at, 0, result.number
        case Multiply():
            if found.result is not None:
                number: Number = "int32" if found.number == "int8" else "f32"
                yield found.result, found.result_at, timing.edge, number
        case Switch():
            yield found.result, found.result_at, timing.switch_position, None
        case Receive():
            yield found.flow, found.at, timing.edge, None
        case Read() | Write() | Load() | Send():
            return
        case _:
            assert_never(found)


def _give(streams: Streams, u: int, unit: Unit, timing: Timing) -> None:
    found = unit.instruction
    count, stride = found.count, found.stride
    if isinstance(found, Read):
        output = Output(u, 0, None)
        for i, (_, place) in enumerate(places(found, timing)):
            lane = Lane(unit.chip, found.flow.side, found.flow.way, found.flow.first + i)
            streams.give(lane, Given(output, i, place, found.at, count, stride))
    elif isinstance(found, Send):
        at = timing.received(found.at)
        wire = Wire(unit.chip, found.to, found.lane)
        streams.give(wire, Given(Output(u, 0, None), 0, 1, at, count, stride))
    for n, (flow, at, place, number) in enumerate(_gives(unit, timing)):
        output = Output(u, n, number)
        for i in range(flow.width):
            lane = Lane(unit.chip, flow.side, flow.way, flow.first + i)
            streams.give(lane, Given(output, i, place, at, count, stride))


def _takes(unit: Unit) -> Iterator[tuple[Flow, Number | None]]:
    """Flows that a unit takes, each a number or bytes."""
    found = unit.instruction
    match found:
        case Load():
            size = NUMBER_BYTES[found.number]
            for first in range(0, found.flow.width, size):
                yield found.flow.part(first, size), found.number
        case Multiply():
            yield found.flow, found.number
        case Vector():
            for operand in found.operands:
                yield operand.flow, operand.number
        case Write() | Switch() | Send():
            yield found.flow, None
        case Read() | Receive():
            return
        case _:
            assert_never(found)


def _match(units: Mapping[int, Unit], timing: Timing) -> dict[int, tuple[Taken, ...]]:
    streams = Streams()
    for u, unit in units.items():
        _give(streams, u, unit, timing)
    taken: dict[int, tuple[Taken, ...]] = {}
    for u, unit in units.items():
        found, name = unit.instruction, str(unit)
        phases = found.at + found.stride * np.arange(found.count, dtype=np.int64)
        if isinstance(found, Receive):
            wire = Wire(found.source, unit.chip, found.lane)
            taken[u] = (streams.take([wire], [0], phases, inward=True, number=None, name=name),)
            continue
        flows = []
        where = [place for _, place in places(found, timing)]
        for flow, number in _takes(unit):
            lanes = [
                Lane(unit.chip, flow.side, flow.way, flow.first + i) for i in range(flow.width)
            ]
            positions = where if len(where) == flow.width else where * flow.width
            inward = flow.way == "in"
            flows.append(
                streams.take(lanes, positions, phases, inward=inward, number=number, name=name)
            )
        taken[u] = tuple(flows)
    return taken


def _edges(
    taken: Mapping[int, tuple[Taken, ...]], products: Products, hazards: Hazards
) -> Iterator[tuple[int, int]]:
    for u, flows in taken.items():
        for flow in flows:
            yield from ((part.output.unit, u) for part in flow.parts)
    yield from ((load, u) for u, load in products.weights.items())
    for u, earlier in products.before.items():
        yield from ((v, u) for v in earlier)
    yield from hazards.edges


def _begins(units: Sequence[Unit], timing: Timing) -> list[int]:
    """The first cycle of each."""
    return [
        min(
            cycle(way, place, unit.instruction.at)
            for way, place in places(unit.instruction, timing)
        )
        for unit in units
    ]


def _sorted(begins: Sequence[int], edges: Edges) -> tuple[list[int], set[int]]:
    """All units, each after those that it waits for, else by cycle; and those that wait for
    each other, or are between such.
    """
    after: dict[int, list[int]] = defaultdict(list)
    before: dict[int, list[int]] = defaultdict(list)
    for first, second in edges:
        after[first].append(second)
        before[second].append(first)
    order = _peeled(begins, range(len(begins)), after, before)
    rest = set(range(len(begins))).difference(order)
    return order, rest.difference(_peeled(begins, sorted(rest), before, after))


def _peeled(
    begins: Sequence[int],
    members: Sequence[int],
    after: Mapping[int, list[int]],
    before: Mapping[int, list[int]],
) -> list[int]:
    """Those of the members that can go, none of which waits for one that cannot."""
    inside = set(members)
    waits = {u: sum(v in inside for v in before.get(u, ())) for u in members}
    ready = [(begins[u], u) for u in members if waits[u] == 0]
    heapq.heapify(ready)
    order = []
    while ready:
        _, u = heapq.heappop(ready)
        order.append(u)
        for v in after.get(u, ()):
            if v in inside:
                waits[v] -= 1
                if waits[v] == 0:
                    heapq.heappush(ready, (begins[v], v))
    return order


def _last_uses(
    order: Sequence[int], taken: Mapping[int, tuple[Taken, ...]], products: Products
) -> dict[int, tuple[int, ...]]:
    last: dict[int, int] = {}
    for u in order:
        last[u] = u
        for flow in taken[u]:
            last |= {part.output.unit: u for part in flow.parts}
        if u in products.weights:
            last[products.weights[u]] = u
    found: dict[int, list[int]] = defaultdict(list)
    for u, user in last.items():
        found[user].append(u)
    return {user: tuple(units) for user, units in found.items()}
