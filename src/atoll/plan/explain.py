"""Why a plan is as it is: what limits it, and what more would bring."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from atoll.domain.errors import AtollError
from atoll.plan.fleet import Demand, Fleet, LinkEntry, Machine, ModelCosts
from atoll.plan.planner import RingPlan, plan_ring
from atoll.plan.predict import ON_ONE_HOST


@dataclass(frozen=True, slots=True)
class OneMore:
    """What another node would bring that is like `like`, on links like its own.

    `gain` is the tokens per second with it divided by those without.
    """

    like: str
    gain: float


def one_more(fleet: Fleet, model: ModelCosts, demand: Demand, plan: RingPlan) -> OneMore | None:
    """The kind of node of which one more would bring most; None without a node.

    Looked for among the nodes of the plan and the fastest that it leaves out.
    """
    tried = {placed.machine for placed in plan.placement}
    idle = [i for i, machine in enumerate(fleet.machines) if machine.name in plan.left_out]
    if idle:
        tried.add(min(idle, key=lambda i: fleet.machines[i].one_layer_s(1)))
    best: OneMore | None = None
    for i in sorted(tried):
        machine = fleet.machines[i]
        try:
            more = plan_ring(with_twin(fleet, machine), model, demand)
        except AtollError:
            continue
        gain = more.prediction.tokens_per_s / plan.prediction.tokens_per_s
        if best is None or gain > best.gain:
            best = OneMore(machine.name, gain)
    return best


def with_twin(fleet: Fleet, machine: Machine) -> Fleet:
    """The fleet with another node like one of its own, on a host of its own."""
    name = f"another {machine.name}"
    twin = msgspec.structs.replace(machine, name=name, host="")
    links = [
        msgspec.structs.replace(
            link,
            source=name if link.source == machine.name else link.source,
            target=name if link.target == machine.name else link.target,
        )
        for link in fleet.links
        if machine.name in (link.source, link.target)
    ]
    # To its model it is as far as that is to its nearest neighbour.
    own = [link for link in fleet.links if machine.name in (link.source, link.target)]
    if own:
        near = min(own, key=lambda link: link.latency_s)
        links.append(LinkEntry(machine.name, name, near.latency_s, near.bytes_per_s))
    return msgspec.structs.replace(
        fleet, machines=(*fleet.machines, twin), links=(*fleet.links, *links)
    )


def reason(plan: RingPlan, demand: Demand) -> str:
    """In a sentence: what bounds the tokens per second."""
    told, limit = plan.prediction, plan.prediction.limit
    if limit == "distance":
        links_s = told.back_s + sum(stage.link_s for stage in told.stages)
        share = links_s / told.token_s
        return f"most of a lap is distance: {share:.0%} of a lone token's time is spent on links"
    if limit.startswith("the link"):
        return f"{limit} is too slow for {demand.streams} streams"
    slowest = next((stage for stage in told.stages if stage.name == limit), None)
    if slowest is None:
        verb = "share its cores and are" if limit.endswith(ON_ONE_HOST) else "is"
        return f"{limit} {verb} busiest"
    share = slowest.step_s / told.token_s
    return f"{limit} limits the ring: {share:.0%} of a lone token's time is spent there"
