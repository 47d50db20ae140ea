"""A plan as it is told: to people by the command line, to programs as JSON."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from atoll.domain.wire import F16_SCALED, row_bytes
from atoll.model.manifest import Manifest
from atoll.plan.capacity import layer_need
from atoll.plan.explain import OneMore, one_more, reason
from atoll.plan.fleet import Demand, Fleet, ModelCosts
from atoll.plan.planner import RingPlan
from atoll.plan.replicas import RingsPlan, plan_rings

FROM_TO = {"source": "from", "target": "to"}
"""How the ends of a link are called in JSON."""


class StageReport(msgspec.Struct, frozen=True):
    """A node's part: layers [first, last) of the model, and what a lone token takes there.

    `need_bytes` are weights and caches, `memory_bytes` what the node has free.
    """

    name: str
    first: int
    last: int
    step_ms: float
    link_ms: float
    need_bytes: int
    memory_bytes: int


class LinkReport(msgspec.Struct, frozen=True, rename=FROM_TO):
    """A link of the ring: one way for a small frame, its rate, and a lone stream's window on it.

    In JSON its ends are `from` and `to`.
    """

    source: str
    target: str
    delay_ms: float
    bytes_per_s: float
    window_ms: float


class PlanReport(msgspec.Struct, frozen=True):
    """A plan and what it foretells.

    `token_ms` is a lone stream's time per token, `tokens_per_s` what `streams` get
    together, `first_token_ms` the time to the first token of `prompt` tokens.
    `gap` bounds by how much, as a share, the best plan there is could be faster.
    `shared`: of several rings, it is planned to serve some of the streams.
    `links` lead from the gateway to the first stage, from each to the next, and back.
    The largest chunk of a prompt takes the busiest node `chunk_ms` to compute, and the
    slowest link `chunk_link_ms` to carry in long rows; where that is more, `short_rows` are
    sent. Prompts enter in chunks of `chunk_rows`, up to `chunks_in_flight` at a time; while
    others decode in chunks of `beside_rows`, which take no node or link longer than `beside_ms`.
    """

    streams: int
    context: int
    prompt: int
    token_ms: float
    tokens_per_s: float
    first_token_ms: float
    ends_ms: float
    back_ms: float
    stages: tuple[StageReport, ...]
    left_out: tuple[str, ...]
    reason: str
    more_of: str
    more_gain: float
    gap: float
    shared: bool = True
    links: tuple[LinkReport, ...] = ()
    chunk_ms: float = 0.0
    chunk_link_ms: float = 0.0
    short_rows: bool = False
    chunk_rows: int = 0
    chunks_in_flight: int = 0
    beside_rows: int = 0
    beside_ms: float = 0.0


class RingsReport(msgspec.Struct, frozen=True):
    """Rings side by side: `tokens_per_s` is what `streams` get of all of them together.

    The `streams` of a ring are those of them that it is planned to serve. One that is not
    `shared` has none of them: it answers when the others are busy, and is foretold for one.
    """

    streams: int
    tokens_per_s: float
    rings: tuple[PlanReport, ...]
    left_out: tuple[str, ...]


def model_costs(
    manifest: Manifest,
    boundaries: Collection[int],
    ends: int,
    *,
    encoding: str = F16_SCALED,
    short: str = "",
) -> ModelCosts:
    """What the layers between the gateway's ends cost.

    Args:
        manifest: The model.
        boundaries: Where it may be cut, in layers of the whole model.
        ends: Layers at each end that the gateway computes.
        encoding: How rows travel.
        short: How they may travel in rings whose prompts would wait for a link else.
    """
    first, last = ends, manifest.n_layers - ends
    return ModelCosts(
        layer_bytes=manifest.layer_bytes[first:last],
        kv_cell_bytes=manifest.layer_kv_bytes[first:last],
        boundaries=tuple(sorted(cut - first for cut in boundaries if first <= cut <= last)),
        row_bytes=row_bytes(encoding, manifest.n_embd),
        short_row_bytes=row_bytes(short, manifest.n_embd) if short else 0,
    )


def report(
    fleet: Fleet, model: ModelCosts, demand: Demand, *, ends: int, rings_max: int = 1
) -> RingsReport:
    """Plan rings and tell what they do, why, and what one more node would bring.

    Raises:
        BadRequest: The fleet is none.
        NothingFits: It has too little memory.
        CannotCut: The model cannot be cut as its memory asks for.
    """
    plan = plan_rings(fleet, model, demand, rings_max=rings_max)
    return rings_told(plan, model, demand, ends=ends)


def rings_told(plan: RingsPlan, model: ModelCosts, demand: Demand, *, ends: int) -> RingsReport:
    """Rings that were planned, in a report."""
    rings = []
    for ring in plan.rings:
        asked = msgspec.structs.replace(demand, streams=max(1, ring.streams))
        made = told(ring.plan, ring.fleet, model, asked, ends=ends)
        shared = ring.streams > 0
        rings.append(msgspec.structs.replace(made, left_out=plan.left_out, shared=shared))
    return RingsReport(
        demand.streams, round(plan.tokens_per_s, 3), tuple(rings), left_out=plan.left_out
    )


def told(
    plan: RingPlan, fleet: Fleet, model: ModelCosts, demand: Demand, *, ends: int
) -> PlanReport:
    """A plan that was made, in a report."""
    need = layer_need(model, demand)
    found = plan.prediction
    more = one_more(fleet, model, demand, plan) or OneMore("", 1.0)
    stages = tuple(
        StageReport(
            name=stage.name,
            first=stage.first + ends,
            last=stage.last + ends,
            step_ms=_ms(stage.step_s),
            link_ms=_ms(stage.link_s),
            need_bytes=sum(need[stage.first : stage.last]),
            memory_bytes=fleet.machines[placed.machine].memory_bytes,
        )
        for stage, placed in zip(found.stages, plan.placement, strict=True)
    )
    return PlanReport(
        streams=demand.streams,
        context=demand.context,
        prompt=demand.prompt,
        token_ms=_ms(found.token_s),
        tokens_per_s=round(found.tokens_per_s, 3),
        first_token_ms=_ms(found.first_token_s),
        ends_ms=_ms(found.ends_s),
        back_ms=_ms(found.back_s),
        stages=stages,
        left_out=plan.left_out,
        reason=reason(plan, demand),
        more_of=more.like,
        more_gain=round(more.gain, 3),
        gap=round(plan.gap, 4),
        chunk_ms=_ms(found.chunk_s),
        chunk_link_ms=_ms(found.chunk_link_s),
        short_rows=found.short_rows,
        chunk_rows=found.chunks.rows,
        chunks_in_flight=found.chunks.in_flight,
        beside_rows=found.chunks.beside_rows,
        beside_ms=_ms(found.chunks.beside_s),
        links=tuple(
            LinkReport(
                source=hop.source,
                target=hop.target,
                delay_ms=_ms(hop.delay_s),
                bytes_per_s=round(hop.bytes_per_s),
                window_ms=_ms(hop.window_s),
            )
            for hop in found.hops
        ),
    )


def _ms(seconds: float) -> float:
    return round(1e3 * seconds, 3)
