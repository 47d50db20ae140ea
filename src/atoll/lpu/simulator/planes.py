"""Which weights a product has, and whether its accumulators hold what it adds to.

A plane of a side has a buffer, weights and accumulators; halves take a pair of planes, of which
the first one's accumulators keep the sums. All act at the edge, so that phases give the order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from atoll.domain.errors import BadRequest
from atoll.lpu.program import Load, Multiply, Number, Side
from atoll.lpu.simulator.units import Unit
from atoll.lpu.timing import Timing


@dataclass(frozen=True, slots=True)
class Products:
    """Of each product's unit, the load whose weights it has, and those who were on its planes
    before it, if any.
    """

    weights: dict[int, int]
    before: dict[int, list[int]]


@dataclass(slots=True)
class _Plane:
    buffer: int | None = None
    weights: int | None = None
    last: int | None = None
    sums: dict[int, Number] = field(default_factory=dict)


def crossed(units: Mapping[int, Unit]) -> set[int]:
    """Products whose vectors come to a plane between those of another."""
    by_plane: dict[tuple[int, Side, int], list[tuple[int, int, int]]] = defaultdict(list)
    for u, unit in units.items():
        found = unit.instruction
        if isinstance(found, Multiply):
            for plane in _planes(found):
                by_plane[unit.chip, found.flow.side, plane].append((found.at, found.end, u))
    met: set[int] = set()
    for bursts in by_plane.values():
        bursts.sort()
        latest, whose = 0, -1
        for at, end, u in bursts:
            if at < latest:
                met |= {u, whose}
            if end > latest:
                latest, whose = end, u
    return met


def follow_weights(units: Mapping[int, Unit], timing: Timing) -> Products:
    """Weights and sums through all planes.

    Raises:
        BadRequest: A product installs what is not loaded, or has no weights; weights are never
            installed; two vectors come to a plane at once; a sum was not begun.
    """
    by_side: dict[tuple[int, Side], list[int]] = defaultdict(list)
    for u, unit in units.items():
        if isinstance(unit.instruction, Load | Multiply):
            by_side[unit.chip, unit.instruction.flow.side].append(u)
    found = Products({}, {})
    for members in by_side.values():
        planes = [_Plane() for _ in range(timing.planes)]
        # A buffer is free in the cycle in which its weights are installed.
        for u in sorted(members, key=lambda u: _turn(units[u])):
            instruction = units[u].instruction
            if isinstance(instruction, Load):
                _load(units, u, [planes[p] for p in _planes(instruction)])
            elif isinstance(instruction, Multiply):
                used = [planes[p] for p in _planes(instruction)]
                _multiply(units, u, instruction, used, timing)
                assert used[0].weights is not None
                found.weights[u] = used[0].weights
                if before := [p.last for p in used if p.last is not None]:
                    found.before[u] = before
                for plane in used:
                    plane.last = u
        for plane in planes:
            if plane.buffer is not None:
                raise BadRequest(f"{units[plane.buffer]}: its weights are never installed")
    return found


def _planes(found: Load | Multiply) -> tuple[int, ...]:
    return (0, 1) if found.number == "f16" else (found.plane,)


def _turn(unit: Unit) -> tuple[int, bool]:
    return unit.instruction.at, isinstance(unit.instruction, Load)


def _load(units: Mapping[int, Unit], u: int, used: Sequence[_Plane]) -> None:
    for plane in used:
        if plane.buffer is not None:
            raise BadRequest(
                f"{units[plane.buffer]}: its weights are never installed, and {units[u]} "
                "takes their place"
            )
        plane.buffer = u


def _multiply(
    units: Mapping[int, Unit], u: int, found: Multiply, used: Sequence[_Plane], timing: Timing
) -> None:
    name = str(units[u])
    for plane in used:
        if plane.last is not None and units[plane.last].instruction.end > found.at:
            raise BadRequest(f"{name}: {units[plane.last]} comes to the plane at the same time")
        if found.install:
            if plane.buffer is None:
                raise BadRequest(f"{name}: nothing was loaded that it could install")
            plane.weights, plane.buffer = plane.buffer, None
        if plane.weights is None:
            raise BadRequest(f"{name}: the plane has no weights")
    first = used[0].weights
    assert first is not None
    load = units[first].instruction
    for plane in used:
        assert plane.weights is not None
        there = units[plane.weights]
        assert isinstance(there.instruction, Load)
        if there.instruction.number != found.number or plane.weights != first:
            raise BadRequest(
                f"{name}: the plane has weights of {there.instruction.number}: {there}"
            )
    ready = load.end - 1 + timing.assumed.install_cycles
    if found.install and found.at < ready:
        raise BadRequest(f"{name}: {units[first]} can be installed from phase {ready} on")
    sums = used[0].sums
    for row in range(found.row, found.row + found.count):
        if not found.clear and sums.get(row) != found.number:
            raise BadRequest(f"{name}: no sum of {found.number} was begun in accumulator {row}")
        sums[row] = found.number
