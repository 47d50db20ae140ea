"""The rings in numbers, for `atoll status` and the demo's table."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec
import psutil

from atoll import __version__
from atoll.domain.address import Address
from atoll.domain.ids import NodeId
from atoll.engine.process import missing
from atoll.gateway.link_status import LinkStatus, link_status
from atoll.members.member import Member, address_of
from atoll.model.manifest import Manifest
from atoll.plan.report import PlanReport

if TYPE_CHECKING:
    # Commands that only show the numbers need none of the gateway, which is slow to import.
    from atoll.gateway.conductor import Conductor
    from atoll.gateway.laps import Laps
    from atoll.gateway.numeric_classes import NumericClasses
    from atoll.gateway.options import RingOptions
    from atoll.gateway.ring import Ring
    from atoll.members.fleet import Fleet


class StageStatus(msgspec.Struct, frozen=True):
    """One stage. Milliseconds are means over its decode steps since it was loaded.

    `carrier` is what carries its control link: "tls" or "quic".

    Of a step's time `engine_ms` is spent inside llama.cpp, `convert_ms` in the
    rest of the stage process, `pipe_ms` between node and stage process, and
    `node_ms` in the node's handlers. While the shard is on its way to the node,
    `fetched_bytes` of `fetch_bytes` are there. If the node has measured itself,
    `layer_ms` is what one layer takes it for one row. `bits` names what exact rows come
    to; with `row_by_row` they are computed one by one, as rows that are computed together
    come to others there.
    """

    name: str
    node: str
    address: str
    carrier: str
    first: int
    last: int
    ready: bool
    shard_bytes: int
    kv_bytes: int
    memory_bytes: int
    batches: int
    steps: int
    windows: int
    rows: int
    engine_ms: float
    convert_ms: float
    pipe_ms: float
    node_ms: float
    sessions: int
    isolation_missing: tuple[str, ...]
    device: str = ""
    fetched_bytes: int = 0
    fetch_bytes: int = 0
    measured: bool = False
    layer_ms: float = 0.0
    bits: str = ""
    row_by_row: bool = False


class LapStatus(msgspec.Struct, frozen=True):
    """Where the time of one decode step goes: medians of the last ones, milliseconds.

    `overhead_ms` is all that is outside the engine processes: gateway, nodes,
    links and socket pairs. `stages_ms` is spent in the stage processes, `ends_ms`
    in the ends' engine, `sampling_ms` in the rest of the ends process.
    """

    steps: int
    overhead_ms: float
    stages_ms: float
    ends_ms: float
    sampling_ms: float
    ends_pipe_ms: float


class RingStatus(msgspec.Struct, frozen=True):
    """One ring of the model.

    `plan` is what it was made by, None where its parts are equal. Its `active` streams
    hold a slot, `waiting` ones are in line for one. Of `guessed` tokens that were
    checked `guessed_right` were right. `links` are those between gateway and stages,
    in the order of the ring. `parked` conversations rest outside the slots, in
    `parked_bytes` at the gateway. `wire` is the encoding of hidden states on them, exact
    answers apart. `exact_problem` says why exact answers may differ from those before its
    last change of machines; it is empty where nothing speaks against it. With
    `ends_row_by_row` the gateway computes exact rows one by one.
    """

    ready: bool
    reason: str
    epoch: tuple[int, int]
    active: int
    waiting: int
    stages: tuple[StageStatus, ...]
    lap: LapStatus | None
    ends_device: str = ""
    guessed: int = 0
    guessed_right: int = 0
    plan: PlanReport | None = None
    links: tuple[LinkStatus, ...] = ()
    wire: str = ""
    parked: int = 0
    parked_bytes: int = 0
    exact_problem: str = ""
    ends_row_by_row: bool = False


class MemoryStatus(msgspec.Struct, frozen=True):
    """A node that only lends memory: so many bytes, of which `blobs` take `used_bytes`."""

    name: str
    node: str
    address: str
    carrier: str
    lent_bytes: int
    used_bytes: int
    blobs: int


class GatewayStatus(msgspec.Struct, frozen=True):
    """The answer of `GET /status`.

    Each of the `rings` answers requests by itself; the first is there from the
    beginning. Each may hold `streams` streams. `memory` are the nodes that only lend
    memory.
    """

    version: str
    model: str
    model_id: str
    architecture: str
    quantisation: str
    n_layers: int
    ready: bool
    reason: str
    streams: int
    context: int
    active: int
    waiting: int
    nodes_missing: int
    gateway_memory_bytes: int
    ends: tuple[tuple[int, int], ...]
    rings: tuple[RingStatus, ...]
    memory: tuple[MemoryStatus, ...] = ()


def gateway_status(
    conductor: Conductor, fleet: Fleet, manifest: Manifest, options: RingOptions
) -> GatewayStatus:
    """A snapshot."""
    health = conductor.health()
    by_node = {member.link.peer: member for member in fleet.everybody}
    # The first one is there before it is formed: its reason is the gateway's.
    shown = [ring for ring in conductor.rings if ring.taken or not ring.number]
    rings = tuple(_ring(ring, by_node, conductor.classes) for ring in shown)
    held = options.ends
    return GatewayStatus(
        version=__version__,
        model=conductor.card.name,
        model_id=manifest.model,
        architecture=manifest.architecture,
        quantisation=manifest.quantisation,
        n_layers=manifest.n_layers,
        ready=health.ready,
        reason=health.reason,
        streams=options.streams,
        context=conductor.card.context,
        active=sum(ring.active for ring in rings),
        waiting=sum(ring.waiting for ring in rings),
        nodes_missing=fleet.missing,
        gateway_memory_bytes=_memory((os.getpid(), *(ring.ends.pid for ring in conductor.rings))),
        ends=((0, held), (manifest.n_layers - held, manifest.n_layers)),
        rings=rings,
        memory=tuple(_memory_node(member) for member in fleet.memory.lenders),
    )


def _memory_node(member: Member) -> MemoryStatus:
    lent = member.lent
    return MemoryStatus(
        name=member.name,
        node=member.link.peer,
        address=_shown(address_of(member)),
        carrier=member.link.carrier,
        lent_bytes=member.join.lends_bytes,
        used_bytes=lent.used_bytes if lent else 0,
        blobs=lent.blobs if lent else 0,
    )


def _ring(ring: Ring, by_node: Mapping[NodeId, Member], classes: NumericClasses) -> RingStatus:
    plan, driver, loaded = ring.plan, ring.driver, ring.ends.loaded
    stages = tuple(
        _stage(member, stage.first, stage.last)
        for stage in (plan.stages if plan is not None else ())
        if (member := by_node.get(stage.node)) is not None
    )
    foretold = ring.cast.report if ring.cast is not None else None
    links: tuple[LinkStatus, ...] = ()
    if plan is not None:
        told = [by_node[s.node].report if s.node in by_node else None for s in plan.stages]
        links = link_status(plan, foretold, driver.first if driver else None, told)
    return RingStatus(
        ready=driver is not None,
        reason=ring.reason if driver is None else "",
        epoch=(plan.epoch.incarnation, plan.epoch.counter) if plan else (0, 0),
        active=driver.active if driver else 0,
        waiting=driver.waiting if driver else 0,
        stages=stages,
        lap=_lap(driver.laps) if driver else None,
        ends_device=loaded.device if loaded is not None else "",
        guessed=driver.pace.guessed if driver else 0,
        guessed_right=driver.pace.right if driver else 0,
        plan=foretold,
        links=links,
        wire=ring.encoding if driver else "",
        parked=driver.lot.parked if driver else 0,
        parked_bytes=driver.parking.held_bytes if driver else 0,
        exact_problem=classes.problem(plan.stages, ring.players) if driver and plan else "",
        ends_row_by_row=loaded is not None and not all(bits.together for bits in loaded.bits),
    )


def _stage(member: Member, first: int, last: int) -> StageStatus:
    ready, report = member.ready, member.report
    bits = ready.bits if ready is not None else None
    steps = report.steps if report else 0

    def mean_ms(seconds: float) -> float:
        return round(1e3 * seconds / steps, 3) if steps else 0.0

    return StageStatus(
        name=member.name,
        node=member.link.peer,
        address=_shown(address_of(member)),
        carrier=member.link.carrier,
        first=first,
        last=last,
        ready=ready is not None,
        fetched_bytes=member.fetching.here_bytes if member.fetching else 0,
        fetch_bytes=member.fetching.size_bytes if member.fetching else 0,
        shard_bytes=ready.shard_bytes if ready else 0,
        kv_bytes=ready.kv_bytes if ready else 0,
        memory_bytes=report.memory_bytes if report else 0,
        batches=report.batches if report else 0,
        steps=steps,
        windows=report.windows if report else 0,
        rows=report.rows if report else 0,
        engine_ms=mean_ms(report.engine_s) if report else 0.0,
        convert_ms=mean_ms(report.busy_s - report.engine_s) if report else 0.0,
        pipe_ms=mean_ms(report.call_s - report.busy_s) if report else 0.0,
        node_ms=mean_ms(report.node_s) if report else 0.0,
        sessions=report.sessions if report else 0,
        isolation_missing=missing(report.isolation) if report else (),
        device=ready.device if ready else "",
        bits=bits.digest if bits is not None else "",
        row_by_row=bits is not None and not bits.together,
        measured=member.measured is not None,
        layer_ms=round(1e3 * member.measured.layer_s[0].seconds, 4) if member.measured else 0.0,
    )


def _shown(address: Address) -> str:
    """Where a stage is dialled first."""
    places = (*((address.tls,) if address.tls else ()), *address.quic)
    return str(places[0]) if places else address.relay


def _lap(laps: Laps) -> LapStatus | None:
    if not laps.overhead_s:
        return None

    def median_ms(samples: Iterable[float]) -> float:
        return round(1e3 * statistics.median(samples), 3)

    inside = [e + s for e, s in zip(laps.ends_s, laps.sampling_s, strict=True)]
    pipe = [c - i for c, i in zip(laps.ends_call_s, inside, strict=True)]
    return LapStatus(
        steps=len(laps.overhead_s),
        overhead_ms=median_ms(laps.overhead_s),
        stages_ms=median_ms(laps.stages_s),
        ends_ms=median_ms(laps.ends_s),
        sampling_ms=median_ms(laps.sampling_s),
        ends_pipe_ms=median_ms(pipe),
    )


def _memory(pids: Iterable[int | None]) -> int:
    total = 0
    for pid in pids:
        if pid is None:
            continue
        try:
            total += psutil.Process(pid).memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total
