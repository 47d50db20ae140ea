"""Rings side by side: when they are better than one, and that nodes and hosts are in one only."""

from __future__ import annotations

import itertools
import random

import pytest
from tests.plan.test_planner import fleet, machine, model

from atoll.plan.capacity import NothingFits
from atoll.plan.fleet import Demand, Fleet, LinkEntry, Machine
from atoll.plan.planner import plan_ring
from atoll.plan.replicas import COUNTS_TRIED, RingsPlan, plan_rings, share


def far(machines: list[Machine], ms: float = 10) -> Fleet:
    """All nodes equally far from the gateway."""
    return fleet(machines, [LinkEntry("gateway", m.name, ms / 1e3) for m in machines])


def parts(found: RingsPlan, of: Fleet) -> list[set[str]]:
    return [{of.machines[p.machine].name for p in ring.placement} for ring in found.rings]


def test_one_node_that_holds_all_is_a_ring() -> None:
    four = far([machine(f"n{i}", 2) for i in range(4)])
    found = plan_rings(four, model(8), Demand(streams=4), rings_max=8)
    assert [ring.streams for ring in found.rings] == [1, 1, 1, 1]
    assert all(len(ring.placement) == 1 for ring in found.rings)
    one = plan_ring(four, model(8), Demand(streams=4)).prediction.tokens_per_s
    assert found.tokens_per_s > one
    assert found.tokens_per_s == pytest.approx(
        sum(ring.plan.prediction.tokens_per_s for ring in found.rings)
    )


def test_one_ring_where_the_nodes_hold_no_more() -> None:
    four = far([machine(f"n{i}", 2, 2) for i in range(4)])
    found = plan_rings(four, model(8), Demand(streams=4), rings_max=8)
    assert [len(ring.placement) for ring in found.rings] == [4]
    assert found.rings[0].plan == plan_ring(four, model(8), Demand(streams=4))
    assert found.left_out == ()


def test_no_more_rings_than_are_wanted() -> None:
    four = far([machine(f"n{i}", 2) for i in range(4)])
    found = plan_rings(four, model(8), Demand(streams=4), rings_max=1)
    assert len(found.rings) == 1
    assert found.tokens_per_s == pytest.approx(found.rings[0].plan.prediction.tokens_per_s)


def test_for_one_stream_the_rest_stands_by() -> None:
    nodes = far([machine("slow", 9), machine("quick", 1), machine("small", 1, 0)])
    found = plan_rings(nodes, model(8), Demand(streams=1), rings_max=8)
    assert parts(found, nodes) == [{"quick"}, {"slow"}]
    assert [ring.streams for ring in found.rings] == [1, 0]
    assert found.left_out == ("small",)
    assert found.tokens_per_s == pytest.approx(found.rings[0].plan.prediction.tokens_per_s)


def test_nodes_of_one_host_are_in_one_ring() -> None:
    pairs = [machine(f"n{i}", 2, host=f"h{i // 2}") for i in range(4)]
    found = plan_rings(far(pairs), model(8), Demand(streams=4), rings_max=8)
    assert len(found.rings) == 2
    hosts = [{name[1] in "01" for name in part} for part in parts(found, far(pairs))]
    assert all(len(host) == 1 for host in hosts)
    assert hosts[0] != hosts[1]


def test_the_rest_on_a_host_in_use_stands_by_for_nobody() -> None:
    pair = [machine("a", 1, host="here"), machine("b", 2, host="here")]
    found = plan_rings(far(pair), model(8), Demand(streams=1), rings_max=8)
    assert (parts(found, far(pair)), found.left_out) == ([{"a"}], ("b",))


@pytest.mark.parametrize("seed", range(6))
def test_no_way_to_part_them_for_equal_streams_is_better(seed: int) -> None:
    chance = random.Random(seed)
    nodes = [
        machine(f"n{i}", chance.uniform(0.5, 5), chance.randint(3, 9), overhead_s=0.002)
        for i in range(5)
    ]
    links = [LinkEntry("gateway", n.name, chance.uniform(0, 0.02)) for n in nodes]
    of, costs, demand = fleet(nodes, links), model(8), Demand(streams=4)
    found = plan_rings(of, costs, demand, rings_max=2)
    best = plan_ring(of, costs, demand).prediction.tokens_per_s
    for split in range(1, 16):
        sides = [
            [n for i, n in enumerate(nodes) if bool(split >> i & 1) is side] for side in (0, 1)
        ]
        try:
            two = [
                plan_ring(
                    fleet(side, [k for k in links if k.target in {n.name for n in side}]),
                    costs,
                    Demand(streams=2),
                ).prediction.tokens_per_s
                for side in sides
            ]
        except NothingFits:
            continue
        best = max(best, sum(two))
    # Rings are compared by cuts of layers of mean size, and one ring is preferred to two.
    assert found.tokens_per_s >= best / 1.05


def test_streams_go_where_they_get_most() -> None:
    nodes = far([machine("quick", 1), machine("slow", 4)], ms=0)
    found = plan_rings(nodes, model(8), Demand(streams=5), rings_max=2)
    by_name = {
        next(iter(p)): r.streams for p, r in zip(parts(found, nodes), found.rings, strict=True)
    }
    assert sum(by_name.values()) == 5
    assert by_name["quick"] > by_name["slow"]


def test_rings_share_the_gateways_ends() -> None:
    nodes = [machine(f"n{i}", 0.01) for i in range(4)]
    of = fleet(nodes, ends_ms=10)
    rings = [plan_ring(fleet([n], ends_ms=10), model(8), Demand()).placement for n in nodes]
    alone = share(of, model(8), Demand(), rings[:1])
    together = share(of, model(8), Demand(streams=4), rings)
    # One row of one stream takes the ends ten milliseconds; no ring changes that.
    assert alone.tokens_per_s < 100
    assert together.tokens_per_s <= 100 + 1e-6


@pytest.mark.parametrize("n_nodes", [12, 60])
def test_many_nodes_are_dealt_out(n_nodes: int) -> None:
    nodes = far([machine(f"n{i}", 1 + i % 3, 4, overhead_s=0.002) for i in range(n_nodes)])
    demand = Demand(streams=24)
    found = plan_rings(nodes, model(8), demand, rings_max=8)
    assert len([ring for ring in found.rings if ring.streams]) in COUNTS_TRIED
    used = [p.machine for ring in found.rings for p in ring.placement]
    assert len(used) == len(set(used))
    for ring in found.rings:
        cuts = [(p.first, p.last) for p in ring.placement]
        assert (cuts[0][0], cuts[-1][1]) == (0, 8)
        assert all(a[1] == b[0] for a, b in itertools.pairwise(cuts))
    assert found.tokens_per_s > plan_ring(nodes, model(8), demand).prediction.tokens_per_s


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(NothingFits, match="GiB of memory are missing"):
        plan_rings(far([machine("a", 1, 3)]), model(8), Demand(), rings_max=8)
