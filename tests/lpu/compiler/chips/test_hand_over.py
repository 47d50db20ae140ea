"""The hidden vector reaches all chips of the next group, in their own order, bit by bit."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from tests.support.lpu_small import timing_of

from atoll.domain.errors import BadRequest
from atoll.lpu.check.programs import check
from atoll.lpu.compiler.chain import Tensor
from atoll.lpu.compiler.chips.hand_over import Way, find_ways, hand_over, spread, transfer
from atoll.lpu.compiler.decoder.sums import order
from atoll.lpu.program import Program, Step
from atoll.lpu.simulator.simulator import Simulator
from atoll.lpu.topology import Topology, build, shipped_systems

SYSTEMS = shipped_systems()
NODE = build(SYSTEMS.find("GroqNode"))
RACK = build(SYSTEMS.find("GroqRack"))
RACKS = build(SYSTEMS.find("Dragonfly of racks"), racks=2)
TIMING = timing_of()
BLOCKS = 11
HIDDEN = Tensor("f32", "west", (40, 41, 42, 43), 70, BLOCKS)


def chips(first: int, count: int) -> tuple[int, ...]:
    return tuple(range(first, first + count))


@pytest.mark.parametrize(
    ("topology", "sources", "targets"),
    [
        (NODE, chips(0, 4), chips(4, 4)),
        (NODE, chips(2, 2), chips(6, 2)),
        (NODE, chips(0, 1), chips(1, 1)),
        (RACK, chips(0, 8), chips(8, 8)),
        (RACK, chips(0, 8), chips(32, 8)),
        (RACK, chips(6, 2), chips(8, 2)),
        (RACKS, chips(64, 8), chips(72, 8)),
    ],
)
def test_all_chips_of_the_next_group_get_it(
    topology: Topology, sources: tuple[int, ...], targets: tuple[int, ...]
) -> None:
    moved, members = transfer(find_ways(topology, sources, targets), sources, targets)
    routine = hand_over("moved", moved, HIDDEN, TIMING)
    program = Program(topology.chips, (routine,), (Step(0, members, 0),))
    assert check(program, TIMING, topology) == []
    rng = np.random.default_rng(7)
    blocks = rng.integers(0, 256, (BLOCKS, 4, TIMING.lanes), np.uint8)
    simulator = Simulator(program, TIMING)
    place = (HIDDEN.side, HIDDEN.slices, HIDDEN.address)
    for member, chip in enumerate(sources):
        simulator.poke(chip, *place, blocks[order(BLOCKS, len(sources), member)])
    simulator.run()
    for member, chip in enumerate(targets):
        expected = blocks[order(BLOCKS, len(targets), member)]
        assert np.array_equal(simulator.peek(chip, *place, BLOCKS), expected)


def test_ways_share_no_link_and_the_shortest_come_first() -> None:
    ways = find_ways(RACK, chips(0, 8), chips(8, 8))
    assert [len(way.chips) for way in ways[:2]] == [2, 2]
    assert [way.hops for way in ways] == sorted(way.hops for way in ways)
    used = Counter(pair for way in ways for pair in pairwise(way.chips))
    assert all(n <= RACK.parallel(*pair) for pair, n in used.items())
    lanes = [(*pair, way.lanes[n]) for way in ways for n, pair in enumerate(pairwise(way.chips))]
    assert len(set(lanes)) == len(lanes)


def test_groups_of_a_node_also_use_the_chips_that_are_idle() -> None:
    assert find_ways(NODE, (0, 1), (2, 3)) == [
        Way((0,)),
        Way((1,)),
        Way((0, 4), (0,)),
        Way((1, 5), (0,)),
        Way((0, 6), (0,)),
        Way((1, 7), (0,)),
    ]


def test_vectors_take_a_longer_way_only_if_they_are_there_sooner() -> None:
    ways = [Way((0,)), Way((0, 2), (0,))]
    hop = TIMING.received(0)
    before = hop // TIMING.link_cycles
    assert spread(ways, before, TIMING) == [0] * before
    assert 1 in spread(ways, before + 2, TIMING)


def test_groups_that_are_wired_alike_share_a_routine() -> None:
    def moved(first: int) -> object:
        sources, targets = chips(first, 8), chips(first + 8, 8)
        ways = find_ways(RACK, sources, targets, enough=2)
        return transfer(ways, sources, targets)[0]

    assert moved(0) == moved(8) == moved(40)


def test_more_direct_links_make_it_quicker() -> None:
    def cycles(topology: Topology) -> int:
        sources, targets = chips(0, 8), chips(8, 8)
        moved, _ = transfer(find_ways(topology, sources, targets), sources, targets)
        return hand_over("moved", moved, HIDDEN, TIMING).cycles

    two_nodes = build(SYSTEMS.find("GroqRack"), nodes=2)
    hops = 2 * TIMING.received(0)
    assert hops < cycles(two_nodes) < cycles(RACK)
    # Of both links each brings half of the bytes, one vector after the other.
    each = BLOCKS * 4 // 2 * TIMING.link_cycles
    assert hops + each - TIMING.link_cycles <= cycles(RACK) <= hops + each + 100


def test_a_chip_that_nothing_leads_to() -> None:
    class Apart(Topology):
        def neighbours(self, chip: int) -> tuple[int, ...]:
            return tuple(c for c in super().neighbours(chip) if c // 8 == chip // 8)

    with pytest.raises(BadRequest, match="no links lead from chip 0 to chip 8"):
        find_ways(Apart(RACK.system, 2, 1), (0,), (8,))
