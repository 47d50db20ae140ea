"""From a full fleet to a plan, and to the limits of the coordinator that runs it.

Who gets which layers was decided before (`casting`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from atoll.domain.address import ADDRESSES_MAX, Address, HostPort
from atoll.domain.control import Lend, Plan, Source, StagePlan
from atoll.domain.ids import Epoch, NodeId
from atoll.domain.wire import F16_SCALED
from atoll.engine.threads import usable_cores
from atoll.gateway.casting import Cast
from atoll.gateway.options import RingOptions
from atoll.members.member import Member, address_of
from atoll.model.manifest import Manifest
from atoll.net.transport import Transport
from atoll.plan.report import PlanReport
from atoll.ring.coordinator_config import (
    BESIDE_ROWS,
    CHUNK_ROWS,
    CHUNKS_IN_FLIGHT,
    EXACT_ROWS_MAX,
    GUESS_DEPTH,
    CoordinatorConfig,
)
from atoll.ring.messages import credits_for
from atoll.ring.parking import Parking

SOURCES_MAX = 4
"""Nodes that lend one shard; the gateway has it too."""


def make_plan(
    epoch: Epoch,
    manifest: Manifest,
    cast: Cast,
    options: RingOptions,
    *,
    lenders: Sequence[Member] = (),
    gateway: tuple[NodeId, Address],
    goes_on: Collection[NodeId] = (),
) -> Plan:
    """The plan of one epoch.

    Args:
        epoch: Its number.
        manifest: The model.
        cast: Who computes what.
        options: The ring's shape.
        lenders: Who may have shards already.
        gateway: Our key, and where the last stage dials us.
        goes_on: Nodes that keep what their stages hold of sessions.
    """
    node_id, address = gateway
    stages = tuple(
        StagePlan(
            node=member.link.peer,
            name=member.name,
            first=entry.first,
            last=entry.last,
            shard=entry.shard,
            address=address_of(member),
            sources=sources_for(member, (entry.first, entry.last), lenders),
            goes_on=member.link.peer in goes_on,
        )
        for member, entry in zip(cast.members, cast.entries, strict=True)
    )
    return Plan(
        epoch=epoch,
        model=manifest.model,
        architecture=manifest.architecture,
        n_layers=manifest.n_layers,
        n_embd=manifest.n_embd,
        data_offset=manifest.data_offset,
        n_slots=options.streams,
        context=options.context,
        rows_max=options.rows_max,
        gateway=node_id,
        gateway_address=address,
        stages=stages,
    )


def sources_for(
    borrower: Member, layers: tuple[int, int], lenders: Sequence[Member]
) -> tuple[Source, ...]:
    """Who else has the shard of a stage; nobody where its node has it already."""
    if layers in borrower.holds:
        return ()
    found = [m for m in lenders if layers in m.holds and m is not borrower]
    return tuple(Source(m.link.peer, m.name, address_of(m)) for m in found[:SOURCES_MAX])


def lends_of(plan: Plan) -> Iterator[tuple[NodeId, Lend]]:
    """Who is to be asked to lend what to whom, for a plan."""
    for stage in plan.stages:
        for source in stage.sources:
            yield source.node, Lend(stage.node, plan.model, stage.first, stage.last)


def own_address(last: Member, transport: Transport, port: int) -> Address:
    """Where the last stage dials us: as it did before, or by UDP.

    Args:
        last: The last stage's node.
        transport: What takes our links.
        port: Our TCP port for nodes.
    """
    host, endpoint = last.link.local_host, transport.endpoint
    return Address(
        tls=HostPort(host, port) if host else None,
        quic=endpoint.addresses[:ADDRESSES_MAX] if endpoint else (),
        relay=transport.relay,
    )


def coordinator_config(
    members: Sequence[Member],
    options: RingOptions,
    *,
    encoding: str = F16_SCALED,
    draft_model: bool = False,
    foretold: PlanReport | None = None,
    parking: Parking | None = None,
) -> CoordinatorConfig:
    """The coordinator's limits for a ring.

    Args:
        members: Its nodes.
        options: What the operator chose.
        encoding: How its rows travel.
        draft_model: Whether there is a draft model that guesses.
        parking: What may be parked on it.
        foretold: The plan behind it, which chooses a prompt's chunks; None where there is none.
    """
    # Stages that share a machine's cores gain nothing from working at the same time.
    together = len({member.join.host_id for member in members}) == 1
    credits = credits_for(options.streams)
    chunk_rows = min(options.chunk_rows, options.rows_max)
    beside_rows, in_flight = min(BESIDE_ROWS, chunk_rows), CHUNKS_IN_FLIGHT
    if options.chunk_auto:
        chunk_rows = min(chunk_rows, CHUNK_ROWS)
    if foretold is not None and foretold.chunk_rows:
        chunk_rows, beside_rows = foretold.chunk_rows, foretold.beside_rows
        in_flight = foretold.chunks_in_flight
    return CoordinatorConfig(
        n_slots=options.streams,
        context=options.context,
        rows_max=options.rows_max,
        waiting_max=options.waiting,
        chunk_rows=chunk_rows,
        exact_chunk_rows=min(EXACT_ROWS_MAX, options.rows_max),
        beside_rows=beside_rows if options.chunk_ms else 0,
        prefill_in_flight=in_flight,
        lanes=1 if together else len(members) + 1,
        parallel=max(1, usable_cores() // options.threads_large) if together else len(members),
        encoding=encoding,
        credits=credits,
        return_credits=credits,
        reuse=options.reuse,
        parking=parking,
        draft_model=draft_model,
        guess_depth=GUESS_DEPTH if options.speculate == "lookup" else 0,
    )
