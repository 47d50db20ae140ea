"""Who computes what: by measurements where all are there, else equal shares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.conftest import MakeModel
from tests.gateway.test_ring_plan import member

from atoll.domain.errors import AtollError
from atoll.domain.measure import WindowTime
from atoll.domain.wire import ENCODINGS
from atoll.gateway.casting import Caster, Times
from atoll.gateway.options import RingOptions
from atoll.gateway.shard_book import ShardBook
from atoll.members.member import Member
from atoll.model.architectures import boundaries
from atoll.model.gguf import open_gguf
from atoll.model.manifest import describe
from atoll.plan.fleet import LinkEntry, Machine
from atoll.store.layout import Store

GIB = 1024**3


def players(*names: str, memory: int = GIB) -> list[Member]:
    found = []
    for place, name in enumerate(names):
        one = member(place)
        one.name = name
        one.join = msgspec.structs.replace(one.join, memory_free_bytes=memory)
        found.append(one)
    return found


def machine(name: str, layer_ms: float, memory: int = GIB) -> Machine:
    times = tuple(WindowTime(rows, layer_ms / 1e3 * rows) for rows in (1, 64))
    return Machine(name, memory, times, host=name)


def times(*machines: Machine, links: tuple[LinkEntry, ...] = ()) -> Times:
    return Times((WindowTime(1, 0.001),), {m.name: m for m in machines}, links)


@pytest.fixture
def caster(random_model: MakeModel, tmp_path: Path) -> Any:
    path: Path = random_model("llama", n_layers=10)
    model = Store(tmp_path).resolve(str(path))
    gguf = open_gguf(path)

    def make(said: list[str] | None = None, **options: Any) -> Caster:
        shape: dict[str, Any] = {"nodes": 2, "streams": 2, "context": 64, "plan": "auto"} | options
        return Caster(
            *(describe(gguf, model.model), boundaries(gguf), RingOptions(**shape)),
            ShardBook(path, model.model),
            host="here",
            tell=(said if said is not None else []).append,
        )

    return make


def ranges(cast: Any) -> list[tuple[str, int, int]]:
    return [(m.name, e.first, e.last) for m, e in zip(cast.members, cast.entries, strict=True)]


async def test_without_measurements_shares_are_equal(caster: Any) -> None:
    two = players("a", "b")
    [cast] = await caster().cast(two, None, rings_max=1)
    assert ranges(cast) == [("a", 1, 5), ("b", 5, 9)]
    assert cast.report is None


async def test_one_node_that_was_not_measured(caster: Any) -> None:
    said: list[str] = []
    two = players("a", "b")
    [cast] = await caster(said).cast(two, times(machine("a", 1)), rings_max=1)
    assert ranges(cast) == [("a", 1, 5), ("b", 5, 9)]
    assert said == ["equal shares for now: b not measured"]


async def test_a_faster_node_gets_more_and_a_useless_one_nothing(caster: Any) -> None:
    three = players("slow", "fast", "useless")
    measured = times(machine("slow", 3), machine("fast", 1), machine("useless", 900))
    [cast] = await caster(plan_streams=12).cast(three, measured, rings_max=1)
    shares = {name: last - first for name, first, last in ranges(cast)}
    assert shares == {"fast": 6, "slow": 2}
    assert cast.report is not None
    assert cast.report.left_out == ("useless",)
    assert cast.report.tokens_per_s > 0
    first, last = cast.entries[0], cast.entries[-1]
    assert (first.first, last.last) == (1, 9)


async def test_for_one_stream_the_fastest_alone(caster: Any) -> None:
    two = players("slow", "fast")
    [cast] = await caster().cast(two, times(machine("slow", 3), machine("fast", 1)), rings_max=1)
    assert ranges(cast) == [("fast", 1, 9)]


async def test_who_rests_has_no_part(caster: Any) -> None:
    two = players("slow", "fast")
    two[1].resting = True
    [cast] = await caster().cast(two, times(machine("slow", 3), machine("fast", 1)), rings_max=1)
    assert ranges(cast) == [("slow", 1, 9)]


async def test_links_count(caster: Any) -> None:
    two = players("near", "far")
    measured = times(
        machine("near", 2),
        machine("far", 1),
        links=(LinkEntry("gateway", "near", 0.0), LinkEntry("gateway", "far", 0.3)),
    )
    [cast] = await caster().cast(two, measured, rings_max=1)
    assert ranges(cast) == [("near", 1, 9)]


async def test_the_planned_way_can_be_switched_off(caster: Any) -> None:
    two = players("slow", "fast")
    measured = times(machine("slow", 3), machine("fast", 1))
    [cast] = await caster(plan="equal").cast(two, measured, rings_max=1)
    assert ranges(cast) == [("slow", 1, 5), ("fast", 5, 9)]


async def test_nothing_fits(caster: Any) -> None:
    two = players("a", "b", memory=1000)
    with pytest.raises(AtollError, match="a has too little memory for an equal share"):
        await caster().cast(two, None, rings_max=1)
    small = times(machine("a", 1, 1000), machine("b", 1, 1000))
    with pytest.raises(AtollError, match="GiB of memory are missing"):
        await caster().cast(two, small, rings_max=1)


async def test_what_other_rings_would_gain(caster: Any) -> None:
    two = players("slow", "fast")
    slow_only = times(machine("slow", 3))
    planner = caster()
    current = await planner.cast(two[:1], slow_only, rings_max=1)

    async def gain(everybody: list[Member], known: Times | None, by: Caster = planner) -> float:
        return (await by.better(current, everybody, known, rings_max=1))[0]

    assert await gain(two[:1], slow_only) == pytest.approx(1.0)
    both = times(machine("slow", 3), machine("fast", 1))
    factor, [better] = await planner.better(current, two, both, rings_max=1)
    assert 2 < factor < 3
    assert ranges(better) == [("fast", 1, 9)]
    # While somebody was not measured, or is not here any more, nothing is said.
    assert await gain(two, slow_only) == 0
    assert await gain(two[1:], both) == 0
    assert await gain(two, None) == 0
    assert await gain(two, both, caster(plan="equal")) == 0
    assert (await planner.better((), two, both, rings_max=1))[0] == 0


async def test_what_rings_gain_that_were_found_before(caster: Any) -> None:
    """Shards are fetched for them meanwhile, and things change."""
    two = players("slow", "fast")
    planner = caster()
    standing = await planner.cast(two[:1], times(machine("slow", 3)), rings_max=1)
    both = times(machine("slow", 3), machine("fast", 1))
    factor, better = await planner.better(standing, two, both, rings_max=1)
    assert planner.gain(better, standing, two, both) == pytest.approx(factor)
    assert (
        0.9
        < planner.gain(better, standing, two, times(machine("slow", 3), machine("fast", 3)))
        < 1.1
    )
    # One of them is resting, is gone, or another one since it came back.
    two[1].resting = True
    assert planner.gain(better, standing, two, both) == 0
    two[1].resting = False
    assert planner.gain(better, standing, two[:1], both) == 0
    assert planner.gain(better, standing, [two[0], *players("x", "fast")[1:]], both) == 0
    assert planner.gain(better, (), two, both) == 0


async def test_for_several_streams_rings_side_by_side(caster: Any) -> None:
    four = players(*"abcd")
    links = tuple(LinkEntry("gateway", name, 0.01) for name in "abcd")
    measured = times(*(machine(name, 2) for name in "abcd"), links=links)
    casts = await caster(plan_streams=4).cast(four, measured, rings_max=4)
    assert [[layers for _, *layers in ranges(cast)] for cast in casts] == [[[1, 9]]] * 4
    assert {name for cast in casts for name, _, _ in ranges(cast)} == set("abcd")
    assert len({cast.key for cast in casts}) == 4


async def test_equal_shares_of_several_rings(caster: Any) -> None:
    five = players(*"abcde")
    shared = caster(plan="equal")
    casts = await shared.cast(five, None, rings_max=8)
    assert [ranges(cast) for cast in casts] == [
        [("a", 1, 5), ("b", 5, 9)],
        [("c", 1, 5), ("d", 5, 9)],
    ]
    assert len(await shared.cast(five, None, rings_max=1)) == 1
    assert await shared.cast(five[:1], None, rings_max=1) == ()


async def test_ways_to_nodes_of_other_rings_are_left_out(caster: Any) -> None:
    two = players("free", "busy")
    measured = times(
        *(machine("free", 2), machine("busy", 1)),
        links=(LinkEntry("gateway", "busy", 0.0), LinkEntry("free", "busy", 0.0)),
    )
    [cast] = await caster().cast(two[:1], measured, rings_max=2)
    assert ranges(cast) == [("free", 1, 9)]


async def test_plans_are_made_by_the_rows_that_nodes_know(caster: Any) -> None:
    """Bytes would do on the way to the quicker node, which has to know them."""
    two = players("near", "behind")
    links = (LinkEntry("gateway", "behind", 0.0, 1.4e3), LinkEntry("gateway", "near", 0.0))
    measured = times(machine("near", 20), machine("behind", 4), links=links)

    async def planned(wire: str) -> tuple[str, bool]:
        [cast] = await caster(wire=wire).cast(two, measured, rings_max=1)
        assert cast.report is not None
        return cast.report.stages[0].name, cast.report.short_rows

    assert await planned("f16") == await planned("auto") == ("near", False)
    for one in two:
        one.join = msgspec.structs.replace(one.join, encodings=ENCODINGS)
    assert await planned("auto") == ("behind", True)
    assert await planned("f16") == ("near", False)
    # Rows are short in any case, and nothing shorter is left to choose.
    assert await planned("int8") == ("behind", False)
