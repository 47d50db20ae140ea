"""Tiles of an item: which are next, and what they wait for."""

from __future__ import annotations

import pytest

from atoll.lpu.compiler.chain import LATER
from atoll.lpu.compiler.rows.emission import Emission, Target
from atoll.lpu.compiler.rows.items import Item, Rows, known
from atoll.lpu.compiler.rows.planes import Planes
from atoll.lpu.compiler.rows.room import Room
from atoll.lpu.machine import shipped_chips
from atoll.lpu.program import Load, Multiply
from atoll.lpu.timing import Timing, shipped_assumed

TIMING = Timing(shipped_chips().find("Groq TSP"), shipped_assumed())


def test_what_is_known() -> None:
    room = Room(TIMING)
    before, after = room.given("x", (), "int8", 4), room.rows("int8", 4)
    assert known(before)
    assert not known(after)
    after.there = [5, LATER, 5, 5]
    assert known(after, 2, 2)
    assert known(after, 0, 2, 2)
    assert not known(after, 0, 2)


@pytest.mark.parametrize("is_last_fixed", [False, True])
def test_every_tile_is_multiplied_once(is_last_fixed: bool) -> None:
    """The first product clears, the last one emits; each has its own weights."""
    room, planes = Room(TIMING), Planes(TIMING)
    rows = tuple((Rows(room.given("x", (k,), "int8", 50), 0, 50),) for k in range(5))
    weights = tuple(
        room.weights("w", (k,), columns=320, number="int8", side="east") for k in range(5)
    )
    out = room.rows("int32", 50)

    def keep(emission: Emission) -> None:
        assert emission.sums
        emission.vector([emission.sums], [], [(0, "int32", [Target(out, 0, 50)])])

    item = Item("east", "int8", weights, (rows,), 0, keep, is_last_fixed=is_last_fixed)
    planes.add("east", item)
    planes.run()
    products = sorted(
        (i for i in planes.instructions if isinstance(i, Multiply)), key=lambda i: i.at
    )
    assert [p.clear for p in products] == [True, *[False] * 4]
    assert [p.result is not None for p in products] == [*[False] * 4, True]
    assert all(p.install for p in products)
    assert sum(isinstance(i, Load) for i in planes.instructions) == 5
