"""The system that so many chips form."""

from __future__ import annotations

from atoll.domain.errors import BadRequest
from atoll.lpu.topology import System, Topology, build, shipped_systems

CHIP = "Groq TSP"
"""The chip whose figures are published well enough to compile for."""


def topology_for(chips: int, name: str = "") -> Topology:
    """A system of a design, of as few whole nodes, or racks, as hold so many chips.

    Args:
        chips: At least so many.
        name: Of the design; empty: the smallest that is large enough.

    Raises:
        BadRequest: There is no such design, or none so large, or how its chips are joined is not
            published.
    """
    if chips < 1:
        raise BadRequest(f"a system of {chips} chips", hint="one chip or more")
    system = shipped_systems().find(name) if name else _smallest(chips)
    if chips > system.chips:
        raise BadRequest(f"{system.name} has {system.chips} chips at most, not {chips}")
    nodes = -(-chips // system.node_chips)
    if nodes <= system.nodes:
        return build(system, nodes=nodes, racks=1)
    return build(system, racks=-(-nodes // system.nodes))


def _smallest(chips: int) -> System:
    known = sorted(
        (system for system in shipped_systems() if system.chip == CHIP),
        key=lambda system: system.chips,
    )
    return next((system for system in known if system.chips >= chips), known[-1])
