"""The smallest system of a design that has so many chips."""

from __future__ import annotations

import pytest

from atoll.domain.errors import BadRequest
from atoll.lpu.sizes import topology_for


@pytest.mark.parametrize(
    ("chips", "name", "system", "built"),
    [
        (1, "", "GroqNode", 8),
        (9, "", "GroqRack", 16),
        (72, "", "GroqRack", 72),
        (100, "", "Dragonfly of 264", 104),
        (576, "", "Dragonfly of racks", 576),
        (577, "", "Dragonfly of racks", 648),
        (8, "Dragonfly of racks", "Dragonfly of racks", 8),
    ],
)
def test_as_few_nodes_or_racks_as_hold_them(chips: int, name: str, system: str, built: int) -> None:
    found = topology_for(chips, name)
    assert (found.system.name, found.chips) == (system, built)


def test_what_there_is_not() -> None:
    with pytest.raises(BadRequest, match="10440 chips at most, not 10441"):
        topology_for(10_441)
    with pytest.raises(BadRequest, match="a system of 0 chips"):
        topology_for(0)
    with pytest.raises(BadRequest):
        topology_for(8, "no such system")
