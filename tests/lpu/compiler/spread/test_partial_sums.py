"""Groups of chips add their partial sums: each chip a share, over links that have least to do."""

from __future__ import annotations

from collections import Counter

import pytest

from atoll.lpu.check.programs import check_routine
from atoll.lpu.compiler.chain import Tensor
from atoll.lpu.compiler.spread.gateways import gateways
from atoll.lpu.compiler.spread.line import Links
from atoll.lpu.compiler.spread.links import Fabric
from atoll.lpu.compiler.spread.partial_sums import PartialSums
from atoll.lpu.compiler.spread.ports import Ports
from atoll.lpu.machine import shipped_chips
from atoll.lpu.program import Send, Vector
from atoll.lpu.timing import Timing, shipped_assumed
from atoll.lpu.topology import build, shipped_systems

TIMING = Timing(shipped_chips().find("Groq TSP"), shipped_assumed())
TOPOLOGY = build(shipped_systems().find("Dragonfly of 264"), nodes=3)


def adding_on(fabric: Fabric, ports: Ports, links: Links) -> PartialSums:
    chips = range(len(fabric.boards))
    return PartialSums(fabric, ports, links, node_chips=8, number="f16", relays=chips)


def scattered(members: range, rows: int) -> tuple[Fabric, list[tuple[int, int, int]]]:
    """What a group sends, and chip, first and number of rows that each has in the end."""
    fabric = Fabric(TIMING, TOPOLOGY.chips)
    ports = Ports(TIMING, TOPOLOGY.chips, slices=range(16, 40), group=2, others=1)
    for chip in members:
        ports.reserve({"west": rows}, chip)
    adding = adding_on(fabric, ports, gateways(TOPOLOGY))
    held = {chip: Tensor("f16", "west", (38, 39), 0, rows, [0] * rows) for chip in members}
    shares = adding.scatter(held)
    return fabric, [(s.chip, s.rows.first, s.rows.count) for s in shares]


@pytest.mark.parametrize(
    ("members", "rows"),
    [(range(2, 5), 10), (range(6, 9), 30), (range(5, 18), 40), (range(0, 8), 3)],
)
def test_shares_tile_the_rows(members: range, rows: int) -> None:
    fabric, shares = scattered(members, rows)
    assert sorted(n for _, first, count in shares for n in range(first, first + count)) == list(
        range(rows)
    )
    assert {chip for chip, *_ in shares} <= set(members)
    assert check_routine(fabric.routine("sums"), TIMING) == []


def test_within_a_node_all_links_of_it_carry_a_part() -> None:
    """Of two chips that exchange a lot, the link between them does not carry all of it."""
    fabric = Fabric(TIMING, 8)
    ports = Ports(TIMING, 8, slices=range(16, 40), group=2, others=1)
    for chip in (0, 1):
        ports.reserve({"west": 4000}, chip)
    adding = adding_on(fabric, ports, {})
    for n in range(20):
        held = {chip: Tensor("f16", "west", (38, 39), 200 * n, 200, [0] * 200) for chip in (0, 1)}
        adding.scatter(held)
    sends = Counter[tuple[int, int]]()
    for chip, code in enumerate(fabric.instructions):
        for i in code:
            if isinstance(i, Send):
                sends[chip, i.to] += i.count
    assert set(sends) >= {(0, 1), (1, 0), (0, 2), (2, 1)}
    assert max(sends.values()) < 2 * 20 * 100 / 3


def test_many_sums_go_around_links_that_are_taken() -> None:
    """Of four chips of a node and four of another, all that they can send at once."""
    rows, blocks = 200, 16
    fabric = Fabric(TIMING, TOPOLOGY.chips)
    ports = Ports(TIMING, TOPOLOGY.chips, slices=range(16, 40), group=2, others=1)
    for chip in range(4, 12):
        ports.reserve({"west": blocks * rows}, chip)
    adding = adding_on(fabric, ports, gateways(TOPOLOGY))
    end = 0
    for n in range(blocks):
        held = {
            c: Tensor("f16", "west", (38, 39), rows * n, rows, [0] * rows) for c in range(4, 12)
        }
        end = max(end, *(max(share.tensor.there) for share in adding.scatter(held)))
    sends = Counter[bool]()
    for chip, code in enumerate(fabric.instructions):
        for i in code:
            if isinstance(i, Send):
                sends[i.to // 8 != chip // 8] += i.count
    # What one node has of the other's half crosses once, in two bytes.
    assert sends[True] == 2 * rows * blocks
    # A quarter of the rows over each of the links between two chips of a node, one after another.
    assert end < 0.75 * blocks * rows / 4 * fabric.period("f16")


def test_more_terms_than_ports_are_added_by_and_by() -> None:
    """Eight chips, and slices for three arrivals of a side."""
    fabric = Fabric(TIMING, 8)
    ports = Ports(TIMING, 8, slices=range(16, 22), group=2, others=1)
    adding = adding_on(fabric, ports, {})
    held = {chip: Tensor("f16", "west", (38, 39), 0, 16, [0] * 16) for chip in range(8)}
    assert len(adding.scatter(held)) == 8
    adds = [i for i in fabric.instructions[0] if isinstance(i, Vector)]
    assert [len(i.operands) for i in adds] == [5, 4]
    assert check_routine(fabric.routine("sums"), TIMING) == []
