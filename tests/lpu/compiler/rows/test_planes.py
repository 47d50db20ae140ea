"""Items wait for what they read, and for nothing else."""

from __future__ import annotations

import pytest

from atoll.domain.errors import BadRequest
from atoll.lpu.compiler.rows.emission import Emission, Pass, Target
from atoll.lpu.compiler.rows.items import Item, Rows
from atoll.lpu.compiler.rows.planes import Planes
from atoll.lpu.compiler.rows.room import Room
from atoll.lpu.machine import shipped_chips
from atoll.lpu.program import Alu, Multiply, Read
from atoll.lpu.timing import Timing, shipped_assumed

TIMING = Timing(shipped_chips().find("Groq TSP"), shipped_assumed())


def test_a_product_begins_when_its_rows_are_there() -> None:
    room, planes = Room(TIMING), Planes(TIMING)
    x, y, z = room.given("x", (), "int8", 100), room.rows("int8", 100), room.rows("int8", 100)
    weights = room.weights("w", (), columns=320, number="int8", side="west")

    def copy(emission: Emission) -> None:
        steps = [Alu("relu", (0,))]
        rows = emission.operand(x, 0)
        emission.vector([rows], [*steps, Alu("int8", (1,))], [(2, "int8", [Target(y, 0, 100)])])

    def convert(emission: Emission) -> None:
        assert emission.sums
        where = [Target(z, 0, 100)]
        emission.vector([emission.sums], [Alu("int8", (0,))], [(1, "int8", where)])

    planes.add("west", Item("west", "int8", (weights,), (((Rows(y, 0, 100),),),), 1, convert))
    planes.add_pass(Pass((x,), 100, 2, copy))
    planes.run()
    product = next(i for i in planes.instructions if isinstance(i, Multiply))
    read = max((i for i in planes.instructions if isinstance(i, Read)), key=lambda i: i.at)
    assert product.at >= read.at >= min(y.there)
    # A slice is not read while it is written, but as soon as it was.
    assert read.at < max(y.there) + TIMING.edge
    assert planes.spans[""].plane_cycles == 100


def test_what_waits_for_itself_is_refused() -> None:
    room, planes = Room(TIMING), Planes(TIMING)
    y = room.rows("int8", 10)

    def same(emission: Emission) -> None:
        emission.vector([emission.operand(y, 0)], [], [(0, "int8", [Target(y, 0, 10)])])

    planes.add_pass(Pass((y,), 10, 0, same))
    with pytest.raises(BadRequest, match="wait for each other"):
        planes.run()
