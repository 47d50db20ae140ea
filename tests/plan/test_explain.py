"""Why a plan is as it is."""

from __future__ import annotations

from tests.plan.test_planner import fleet, machine, model

from atoll.plan.explain import one_more, reason, with_twin
from atoll.plan.fleet import Demand, LinkEntry
from atoll.plan.planner import plan_ring


def test_one_more_of_what_limits_helps() -> None:
    found, demand = fleet([machine("a", 5, 10), machine("b", 5, 10)]), Demand(streams=12)
    plan = plan_ring(found, model(20), demand)
    more = one_more(found, model(20), demand, plan)
    assert more is not None
    assert 1.1 < more.gain < 2


def test_one_more_for_a_lone_stream_on_one_node_brings_nothing() -> None:
    found = fleet([machine("a", 5)])
    plan = plan_ring(found, model(20), Demand())
    more = one_more(found, model(20), Demand(), plan)
    assert more is not None
    assert more.gain == 1.0


def test_a_twin_stands_where_its_model_stands() -> None:
    links = [LinkEntry("gateway", "a", 0.01), LinkEntry("a", "b", 0.002)]
    wide = with_twin(fleet([machine("a", 5), machine("b", 5)], links), machine("a", 5))
    assert [m.name for m in wide.machines] == ["a", "b", "another a"]
    assert LinkEntry("gateway", "another a", 0.01) in wide.links
    assert LinkEntry("another a", "b", 0.002) in wide.links
    assert LinkEntry("a", "another a", 0.002) in wide.links


def test_the_bound_in_words() -> None:
    far = [LinkEntry("gateway", "a", 0.2)]
    distant = plan_ring(fleet([machine("a", 1)], far), model(4), Demand())
    assert "most of a lap is distance: 9" in reason(distant, Demand())
    slow = plan_ring(fleet([machine("a", 50)]), model(4), Demand())
    assert reason(slow, Demand()).startswith("a limits the ring: 9")
    narrow = [LinkEntry("gateway", "a", 0.0, 1e4), LinkEntry("a", "gateway", 0.0, 1e9)]
    demand = Demand(streams=8)
    thin = plan_ring(fleet([machine("a", 0.01)], narrow), model(4), demand)
    assert "the link" in reason(thin, demand)


def test_whoever_shares_a_host_is_named_and_no_host() -> None:
    apart = [machine("a", 50, 3, host="0101c8"), machine("b", 1, 3, host="77ffe2")]
    plan = plan_ring(fleet(apart), model(6), Demand())
    assert reason(plan, Demand()).startswith("a limits the ring: ")
    together = [machine("a", 5, 3, host="0101c8"), machine("b", 5, 3, host="0101c8")]
    plan = plan_ring(fleet(together), model(6), Demand())
    assert reason(plan, Demand()) in (
        "a, b on one host share its cores and are busiest",
        "b, a on one host share its cores and are busiest",
    )
    slow_ends = plan_ring(fleet([machine("a", 1)], ends_ms=500), model(4), Demand())
    assert reason(slow_ends, Demand()) == "gateway is busiest"
