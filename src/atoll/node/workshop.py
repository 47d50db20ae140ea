"""Workshop: what a node makes its stages with; the simulation brings another one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from atoll.domain.control import Plan, StagePlan
from atoll.domain.errors import EngineFault
from atoll.engine.parcel_messages import ParcelAnswer
from atoll.engine.place import check_engine
from atoll.engine.stage_client import StageProcess
from atoll.engine.stage_messages import Computed
from atoll.model.manifest import describe, kv_bytes
from atoll.model.parts import open_model
from atoll.net.transport import Transport, open_transport
from atoll.node.options import host_id
from atoll.node.probe import Outcome, measure
from atoll.node.shard_seeker import ShardSeeker
from atoll.store.shards import ShardFile

MakeProcess = Callable[
    [
        Callable[[Computed, bytes], None],
        Callable[[EngineFault], None],
        Callable[[ParcelAnswer, bytes], None],
    ],
    StageProcess,
]


def stage_kv_bytes(shard: ShardFile, plan: Plan, mine: StagePlan) -> int:
    """What the KV caches of a stage take, bytes; reads its shard's header.

    Raises:
        BadModel: The shard is not sound.
    """
    manifest = describe(open_model(shard.path), plan.model)
    return kv_bytes(manifest, 0, mine.last - mine.first, plan.n_slots * plan.context)


@dataclass(frozen=True, slots=True)
class Workshop:
    """Links, shards and engine processes of one node.

    Args:
        open_transport: As `net.transport.open_transport`.
        check_engine: Refuses early where no stage could be computed here.
        seeker: As `ShardSeeker`.
        kv_bytes: What a stage's caches take.
        process: As `StageProcess`.
        measure: As `node.probe.measure`.
        host_id: Names this machine.
    """

    open_transport: Callable[..., AbstractAsyncContextManager[Transport]] = open_transport
    check_engine: Callable[[str], Awaitable[None]] = check_engine
    seeker: Callable[..., ShardSeeker] = ShardSeeker
    kv_bytes: Callable[[ShardFile, Plan, StagePlan], int] = stage_kv_bytes
    process: MakeProcess = StageProcess
    measure: Callable[..., Awaitable[Outcome]] = measure
    host_id: Callable[[], str] = host_id
