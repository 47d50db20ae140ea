"""The planner against every ring there is, on fleets small enough to try them all."""

from __future__ import annotations

import itertools
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.domain.errors import BadRequest, CannotCut
from atoll.domain.measure import WindowTime
from atoll.plan.capacity import NothingFits
from atoll.plan.fleet import Demand, Fleet, Gateway, Link, LinkEntry, Machine, ModelCosts
from atoll.plan.planner import plan_ring
from atoll.plan.predict import Placed, Predictor

GIB = 1024**3
LAYER = 100 * 1024**2


def machine(name: str, layer_ms: float, layers: int = 99, **more: object) -> Machine:
    """A node with room for so many layers of `model`, and a little."""
    memory = int((layers * LAYER * 1.01 + (160 << 20)) / 0.8) + 4096
    times = (WindowTime(1, layer_ms / 1e3), WindowTime(64, layer_ms / 1e3 * 8))
    return Machine(name, memory, times, **more)  # type: ignore[arg-type]


def model(n_layers: int, **more: object) -> ModelCosts:
    fields = {
        "layer_bytes": (LAYER,) * n_layers,
        "kv_cell_bytes": (0,) * n_layers,
        "boundaries": tuple(range(n_layers + 1)),
        "row_bytes": 4096,
    }
    return ModelCosts(**(fields | more))  # type: ignore[arg-type]


def fleet(
    machines: list[Machine], links: list[LinkEntry] | None = None, ends_ms: float = 1
) -> Fleet:
    ends = (WindowTime(1, ends_ms / 1e3), WindowTime(64, ends_ms / 1e3 * 4))
    return Fleet(Gateway(ends), tuple(machines), tuple(links or ()))


def every_period(found: Fleet, costs: ModelCosts, demand: Demand) -> float:
    """The shortest period of any order of any subset with any cut."""
    predictor, n = Predictor(found, costs, demand), costs.n_layers
    room = [int(m.memory_bytes * 0.8 - (160 << 20)) // LAYER for m in found.machines]
    best = float("inf")
    for size in range(1, min(len(found.machines), n) + 1):
        for order in itertools.permutations(range(len(found.machines)), size):
            for cuts in itertools.combinations(range(1, n), size - 1):
                ends = [0, *cuts, n]
                placed = [
                    Placed(node, a, b)
                    for node, (a, b) in zip(order, itertools.pairwise(ends), strict=True)
                ]
                if all(p.last - p.first <= room[p.machine] for p in placed):
                    best = min(best, predictor.period_s(placed)[0])
    return best


@pytest.mark.parametrize("streams", [1, 3, 8])
@pytest.mark.parametrize("seed", range(6))
def test_no_ring_is_better(seed: int, streams: int) -> None:
    rng = random.Random(seed)
    n_layers = rng.randint(2, 6)
    machines = [
        machine(
            f"m{i}",
            10 ** rng.uniform(0, 2),
            rng.randint(1, n_layers),
            overhead_s=rng.uniform(0, 0.01),
        )
        for i in range(4)
    ]
    names = ["gateway", *(m.name for m in machines)]
    links = [
        LinkEntry(a, b, rng.uniform(0, 0.05), 10 ** rng.uniform(6.7, 8))
        for a, b in itertools.permutations(names, 2)
        if rng.random() < 0.8
    ]
    found, costs = fleet(machines, links), model(n_layers)
    demand = Demand(streams=streams)
    try:
        plan = plan_ring(found, costs, demand)
    except NothingFits:
        assert every_period(found, costs, demand) == float("inf")
        return
    best = every_period(found, costs, demand)
    assert Predictor(found, costs, demand).period_s(plan.placement)[0] == pytest.approx(best)
    assert plan.gap == 0
    assert plan.prediction.tokens_per_s == pytest.approx(streams / best)


@pytest.mark.parametrize("seed", range(6))
def test_rings_with_short_rows_are_planned_by_them(seed: int) -> None:
    rng = random.Random(seed)
    machines = [machine(f"m{i}", 10 ** rng.uniform(0, 1), rng.randint(3, 6)) for i in range(3)]
    names = ["gateway", *(m.name for m in machines)]
    links = [
        LinkEntry(a, b, 0.01, 10 ** rng.uniform(3.5, 5.5))
        for a, b in itertools.combinations(names, 2)
    ]
    found, costs = fleet(machines, links), model(6, short_row_bytes=2200)
    for streams in (1, 4):
        demand = Demand(streams=streams)
        plan = plan_ring(found, costs, demand)
        predictor = Predictor(found, costs, demand)
        assert plan.prediction.short_rows == (predictor.row_bytes(plan.placement) == 2200)
        # Cuts are exact only where no link's rate bounds the ring.
        period_s, best_s = predictor.period_s(plan.placement)[0], every_period(found, costs, demand)
        assert best_s <= period_s + 1e-12
        assert period_s == pytest.approx(best_s, rel=0.1)


def test_a_node_behind_a_slow_link_is_worth_it_with_short_rows() -> None:
    machines = [machine("near", 30), machine("behind", 22)]
    found = fleet(machines, [LinkEntry("gateway", "behind", 0.0, 2e5)])
    long, short = (plan_ring(found, model(4, short_row_bytes=size), Demand()) for size in (0, 2200))
    assert (long.left_out, short.left_out) == (("behind",), ("near",))
    assert (long.prediction.short_rows, short.prediction.short_rows) == (False, True)


def test_the_parts_tile_the_model() -> None:
    plan = plan_ring(fleet([machine("a", 1, 5), machine("b", 2, 9)]), model(12), Demand())
    assert [plan.placement[0].first, plan.placement[-1].last] == [0, 12]
    for before, after in itertools.pairwise(plan.placement):
        assert before.last == after.first


def test_a_faster_node_gets_more() -> None:
    two = [machine("slow", 10), machine("fast", 1, 19)]
    plan = plan_ring(fleet(two), model(22), Demand(streams=12))
    sizes = {two[p.machine].name: p.last - p.first for p in plan.placement}
    assert sizes == {"fast": 19, "slow": 3}


def test_a_node_that_slows_the_plan_is_left_out() -> None:
    near, far = machine("near", 2), machine("far", 1)
    links = [LinkEntry("gateway", "near", 0.001), LinkEntry("gateway", "far", 0.2)]
    plan = plan_ring(fleet([near, far], links), model(10), Demand())
    assert plan.left_out == ("far",)
    assert len(plan.placement) == 1


def test_one_node_that_could_hold_everything_does_not_have_to() -> None:
    """With many streams two nodes work at the same time, and that is worth a hop."""
    two = fleet([machine("a", 5), machine("b", 5)])
    alone = plan_ring(two, model(20), Demand(streams=1))
    many = plan_ring(two, model(20), Demand(streams=16))
    assert len(alone.placement) == 1
    assert len(many.placement) == 2
    assert many.prediction.tokens_per_s > 5 * alone.prediction.tokens_per_s


def test_nodes_of_one_host_share_its_cores() -> None:
    times = (WindowTime(1, 0.005), WindowTime(64, 0.32))
    a, b = (msgspec.structs.replace(machine(n, 5, 5), layer_s=times, host="x") for n in "ab")
    shared, apart = fleet([a, b]), fleet([a, msgspec.structs.replace(b, host="y")])
    demand = Demand(streams=9)
    together = plan_ring(shared, model(10), demand).prediction.tokens_per_s
    assert plan_ring(apart, model(10), demand).prediction.tokens_per_s > 1.4 * together


def test_the_order_follows_the_links() -> None:
    names = ["a", "b", "c"]
    near = {("gateway", "c"), ("c", "a"), ("a", "b"), ("b", "gateway")}
    links = [
        LinkEntry(a, b, 0.001 if (a, b) in near else 0.1)
        for a, b in itertools.permutations(["gateway", *names], 2)
    ]
    plan = plan_ring(fleet([machine(n, 1, 4) for n in names], links), model(12), Demand())
    assert [names[p.machine] for p in plan.placement] == ["c", "a", "b"]


def test_cuts_are_made_where_they_may_be() -> None:
    costs = model(12, boundaries=(0, 6, 12))
    plan = plan_ring(fleet([machine("a", 1, 9), machine("b", 3, 9)]), costs, Demand())
    assert [(p.first, p.last) for p in plan.placement] == [(0, 6), (6, 12)]
    with pytest.raises(CannotCut, match="where this model may be cut"):
        plan_ring(fleet([machine("a", 1, 5), machine("b", 3, 9)]), costs, Demand())


def test_large_layers_are_counted_as_they_are() -> None:
    sizes = (LAYER,) * 4 + (3 * LAYER,) * 4
    plan = plan_ring(
        fleet([machine("a", 1, 13), machine("b", 1, 13)]),
        model(8, layer_bytes=sizes),
        Demand(streams=8),
    )
    loads = [sum(sizes[p.first : p.last]) for p in plan.placement]
    assert max(loads) <= 10 * LAYER


class TestNothingFits:
    def test_what_is_missing_is_said(self) -> None:
        with pytest.raises(NothingFits) as caught:
            plan_ring(fleet([machine("a", 1, 3), machine("b", 1, 2)]), model(80), Demand())
        assert "9.2 GiB of memory are missing" in caught.value.problem
        assert "5 of the layers have room" in caught.value.problem

    def test_a_shorter_context_that_would_fit_is_named(self) -> None:
        costs = model(4, kv_cell_bytes=(100_000,) * 4)
        with pytest.raises(NothingFits) as caught:
            plan_ring(fleet([machine("a", 1, 8)]), costs, Demand(streams=1, context=32768))
        context = int(caught.value.hint.split("--context ")[1].split(",")[0])
        assert plan_ring(fleet([machine("a", 1, 8)]), costs, Demand(streams=1, context=context))

    def test_no_nodes_at_all(self) -> None:
        with pytest.raises(NothingFits):
            plan_ring(fleet([]), model(4), Demand())


@pytest.mark.parametrize(
    "wrong",
    [
        fleet([machine("a", 1), machine("a", 2)]),
        fleet([machine("gateway", 1)]),
        fleet([machine("a", -1)]),
        fleet([machine("a", float("nan"))]),
        fleet([Machine("a", GIB, ())]),
        fleet([Machine("a", GIB, (WindowTime(4, 1.0), WindowTime(1, 1.0)))]),
        fleet([Machine("a", -5, (WindowTime(1, 1.0),))]),
        fleet([machine("a", 1)], [LinkEntry("a", "b", 0.1)]),
        fleet([machine("a", 1)], [LinkEntry("a", "gateway", -0.1)]),
        fleet([machine("a", 1)], [LinkEntry("a", "gateway", 0.1, 0.0)]),
    ],
)
def test_what_no_fleet_can_be(wrong: Fleet) -> None:
    with pytest.raises(BadRequest):
        plan_ring(wrong, model(4), Demand())


def large_fleet(n: int, seed: int) -> Fleet:
    rng = random.Random(seed)
    machines = [
        machine(f"m{i}", 10 ** rng.uniform(0, 1.5), rng.randint(2, 40), overhead_s=0.001)
        for i in range(n)
    ]
    links = [
        LinkEntry("gateway", m.name, rng.uniform(0.001, 0.06), 10 ** rng.uniform(6, 8))
        for m in machines
    ]
    return fleet(machines, links, ends_ms=5)


@pytest.mark.parametrize("streams", [1, 8])
def test_a_large_fleet_is_searched_and_its_gap_told(streams: int) -> None:
    plan = plan_ring(large_fleet(200, 1), model(40), Demand(streams=streams))
    assert 0 < plan.gap < 1
    assert [plan.placement[0].first, plan.placement[-1].last] == [0, 40]


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000), streams=st.sampled_from([1, 4]))
def test_the_search_is_near_the_exact_plan(seed: int, streams: int) -> None:
    """Thirteen nodes are searched; twelve of them, with the thirteenth useless, are tried all."""
    small = large_fleet(12, seed)
    useless = machine("useless", 1e5, 1)
    wide = Fleet(small.gateway, (*small.machines, useless), small.links)
    demand = Demand(streams=streams)
    try:
        exact = plan_ring(small, model(30), demand).prediction.tokens_per_s
    except NothingFits:
        return
    searched = plan_ring(wide, model(30), demand)
    assert searched.prediction.tokens_per_s >= 0.85 * exact
    # The bound is one: no plan is better than it says.
    assert exact <= searched.prediction.tokens_per_s * (1 + searched.gap) * (1 + 1e-9)


def test_a_link_known_in_one_direction_counts_for_both() -> None:
    one_way = [LinkEntry("gateway", "a", 0.05)]
    plan = plan_ring(fleet([machine("a", 1)], one_way), model(2), Demand())
    assert plan.prediction.back_s == pytest.approx(0.05, rel=0.01)


def test_nodes_without_any_link_are_at_the_default_distance() -> None:
    found = fleet([machine("a", 1)])
    far = Fleet(found.gateway, found.machines, (), Link(0.5, 1e6))
    assert plan_ring(far, model(2), Demand()).prediction.token_s > 1.0
