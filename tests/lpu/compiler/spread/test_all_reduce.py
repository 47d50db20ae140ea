"""All-reduce: sums are right on every chip, nothing meets, and hops are as few as published."""

from __future__ import annotations

import numpy as np
import pytest

from atoll.domain.errors import BadRequest
from atoll.lpu.check.programs import check
from atoll.lpu.compiler.spread.all_reduce import (
    PARTIAL,
    AllReduce,
    Variant,
    all_reduce,
    faster,
    hops,
)
from atoll.lpu.machine import shipped_chips
from atoll.lpu.program import Number, Receive, Send
from atoll.lpu.simulator.simulator import Simulator
from atoll.lpu.timing import Timing, shipped_assumed
from atoll.lpu.topology import Topology, build, shipped_systems

TIMING = Timing(shipped_chips().find("Groq TSP"), shipped_assumed())
SYSTEMS = shipped_systems()
DRAGONFLY = SYSTEMS.find("Dragonfly of 264")
NODE = build(SYSTEMS.find("GroqNode"))
RACK = build(SYSTEMS.find("GroqRack"))
TWO = build(DRAGONFLY, nodes=2)
THREE = build(DRAGONFLY, nodes=3)
TYPES: dict[Number, str] = {"f16": "<f2", "f32": "<f4", "int32": "<i4"}


def summed(made: AllReduce, values: np.ndarray) -> np.ndarray:
    """What every chip holds after a run on `values` of shape (chips, vectors, lanes)."""
    chips, vectors, lanes = values.shape
    by_name = {PARTIAL.format(chip): values[chip] for chip in range(chips)}

    def words(name: str) -> np.ndarray:
        flat = np.ascontiguousarray(by_name[name]).view(np.uint8)
        return flat.reshape(vectors, lanes, -1).transpose(0, 2, 1)

    simulator = Simulator(made.program, TIMING, words)
    simulator.run()
    out = made.outputs
    found = [
        simulator.peek(chip, out.side, out.slices, out.address, vectors) for chip in range(chips)
    ]
    flat = np.ascontiguousarray(np.stack(found).transpose(0, 1, 3, 2))
    result: np.ndarray = flat.view(values.dtype)[..., 0]
    return result


def random(topology: Topology, vectors: int, number: Number) -> np.ndarray:
    shape = (topology.chips, vectors, TIMING.lanes)
    rng = np.random.default_rng(vectors)
    if number == "int32":
        return rng.integers(-(2**31), 2**31, shape, dtype=np.int64).astype(TYPES[number])
    return rng.standard_normal(shape).astype(TYPES[number])


@pytest.mark.parametrize("variant", ["broadcast", "scatter"])
@pytest.mark.parametrize(
    ("topology", "vectors", "number"),
    [
        (NODE, 5, "f32"),
        (NODE, 3, "int32"),
        (TWO, 1, "int32"),
        (THREE, 1, "f16"),
        pytest.param(TWO, 40, "f32", marks=pytest.mark.long),
        pytest.param(THREE, 150, "f16", marks=pytest.mark.long),
        pytest.param(RACK, 2, "f16", marks=pytest.mark.long),
    ],
    ids=["node-5", "node-3", "two-1", "three-1", "two-40", "three-150", "rack-2"],
)
def test_every_chip_has_the_sum(
    topology: Topology, vectors: int, number: Number, variant: Variant
) -> None:
    made = all_reduce(TIMING, topology, vectors, number, variant=variant)
    assert check(made.program, TIMING, topology) == []
    values = random(topology, vectors, number)
    found = summed(made, values)
    if number == "int32":
        # Sums wrap as the vector unit does, in whatever order they are taken.
        wanted = values.astype(np.int64).sum(axis=0).astype(np.int32)
        assert (found == wanted).all()
        return
    exact = values.astype(np.float64).sum(axis=0)
    eps = {"f16": 2.0**-11, "f32": 2.0**-24}[number]
    # Each level rounds its sums once; no sum of any level exceeds that of absolute values.
    bound = 8 * eps * np.abs(values).astype(np.float64).sum(axis=0)
    assert (np.abs(found - exact) <= bound).all()


def test_one_node_rounds_once() -> None:
    made = all_reduce(TIMING, NODE, 4, "f16", variant="broadcast")
    values = random(NODE, 4, "f16")
    pairs = values.astype(np.float32).reshape(4, 2, 4, -1).sum(axis=1, dtype=np.float32)
    whole = (pairs[0] + pairs[1]) + (pairs[2] + pairs[3])
    assert (summed(made, values) == whole.astype(np.float16)).all()


def test_hops() -> None:
    assert [hops(NODE, "broadcast"), hops(NODE, "scatter")] == [1, 2]
    assert [hops(RACK, "broadcast"), hops(RACK, "scatter")] == [3, 6]


@pytest.mark.parametrize(
    "topology", [NODE, RACK, build(DRAGONFLY, nodes=32)], ids=["node", "rack", "256"]
)
def test_a_short_one_takes_little_more_than_its_hops(topology: Topology) -> None:
    """A hop is 722 ns; beside hops there is a second byte on each link, and sums."""
    made = all_reduce(TIMING, topology, 1)
    network = made.hops * TIMING.chip.hop_cycles()
    per_level = TIMING.link_cycles + 4 * TIMING.assumed.alu_cycles + 2 * TIMING.edge
    assert network <= made.cycles <= network + made.hops * per_level + TIMING.alus


def test_a_long_one_keeps_all_links_of_a_node_busy() -> None:
    made = all_reduce(TIMING, NODE, 4000, "f16")
    assert made.variant == "scatter"
    # Each chip sends and gets 7/8 of its vectors twice over seven links.
    least = 2 * 4000 / 8 * 2 * TIMING.link_cycles
    assert least <= made.cycles <= 1.1 * least
    assert made.links_used > 0.9


def test_the_schedule_that_takes_less() -> None:
    for topology, vectors in ((NODE, 1), (NODE, 64), (THREE, 1), (THREE, 150)):
        made: dict[Variant, int] = {
            "broadcast": all_reduce(TIMING, topology, vectors, variant="broadcast").cycles,
            "scatter": all_reduce(TIMING, topology, vectors, variant="scatter").cycles,
        }
        assert faster(TIMING, topology, vectors, "f16") == min(made, key=lambda v: made[v])


def test_ends_of_links_are_chips_that_are_joined() -> None:
    made = all_reduce(TIMING, RACK, 1)
    (routine,) = made.program.routines
    sends = {(c, i.to) for c, on in enumerate(routine.chips) for i in on if isinstance(i, Send)}
    got = {
        (i.source, c) for c, on in enumerate(routine.chips) for i in on if isinstance(i, Receive)
    }
    assert sends == got
    assert all(RACK.parallel(*pair) for pair in sends)
    between = [pair for pair in sends if RACK.node(pair[0]) != RACK.node(pair[1])]
    assert len(between) == 9 * 8


@pytest.mark.parametrize(
    ("vectors", "number", "variant", "problem"),
    [
        (0, "f16", None, "0 vectors"),
        (1, "int8", None, "all-reduce of int8"),
        (1, "f16", "ring", "no all-reduce 'ring'"),
        (9000, "f16", None, "9000 vectors in a slice of 8192 words"),
    ],
)
def test_what_is_refused(vectors: int, number: Number, variant: Variant, problem: str) -> None:
    with pytest.raises(BadRequest, match=problem):
        all_reduce(TIMING, NODE, vectors, number, variant=variant)


def test_racks_are_refused() -> None:
    racks = build(SYSTEMS.find("Dragonfly of racks"), racks=2)
    with pytest.raises(BadRequest, match="2 racks"):
        all_reduce(TIMING, racks, 1)
