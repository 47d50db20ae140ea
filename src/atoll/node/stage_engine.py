"""A stage process with its shard: loaded for a plan's stage, whoever drives it then.

A node that stands by has one loaded before it is needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from atoll.domain.control import Plan, StagePlan
from atoll.domain.errors import BadModel, EngineFault
from atoll.engine.parcel_messages import ParcelAnswer
from atoll.engine.place import place
from atoll.engine.stage_client import ENGINE_SPARE_BYTES
from atoll.engine.stage_messages import Computed, Loaded, StageOptions
from atoll.node.options import NodeOptions
from atoll.node.shard_seeker import ShardSeeker
from atoll.node.workshop import Workshop

Part = tuple[object, ...]


def part_of(plan: Plan, stage: StagePlan) -> Part:
    """What two stages have in common that one process can serve."""
    shape = (plan.n_embd, plan.n_slots, plan.context, plan.rows_max)
    return (plan.model, stage.shard, stage.first, stage.last, *shape)


class StageEngine:
    """One stage process.

    Args:
        plan: The plan whose stage it is loaded for.
        stage: The stage.
        options: Threads and devices.
        seeker: Finds the shard.
        workshop: What it is made with.
    """

    def __init__(
        self,
        plan: Plan,
        stage: StagePlan,
        options: NodeOptions,
        seeker: ShardSeeker,
        workshop: Workshop,
    ) -> None:
        self.part = part_of(plan, stage)
        self._plan, self._stage = plan, stage
        self._options = options
        self._seeker = seeker
        self.on_computed: Callable[[Computed, bytes], None] = lambda _message, _payload: None
        self.on_parcel: Callable[[ParcelAnswer, bytes], None] = lambda _answer, _data: None
        self.on_exit: Callable[[EngineFault], None] = lambda _fault: None
        self._workshop = workshop
        self.process = workshop.process(self._computed, self._gone, self._parcel)
        self.loaded: Loaded | None = None
        self.shard_bytes = self.kv_bytes = 0
        self.is_gone = False

    async def load(self) -> Loaded:
        """Find the shard and start the process with it; again is no error.

        Raises:
            AtollError: One of them cannot be had.
        """
        if self.loaded is not None:
            return self.loaded
        plan, mine = self._plan, self._stage
        shard = await self._seeker.find()
        kv = await asyncio.to_thread(self._workshop.kv_bytes, shard, plan, mine)
        options = StageOptions(
            path=str(shard.path),
            n_slots=plan.n_slots,
            context=plan.context,
            rows_max=plan.rows_max,
            threads=self._options.threads,
            threads_large=self._options.threads_large,
        )
        loaded = await self.process.start(
            options,
            memory_bytes=2 * shard.size_bytes + kv + ENGINE_SPARE_BYTES,
            spin=self._options.spin,
            gpu=await place(self._options.gpu, shard.size_bytes + kv),
        )
        if loaded.n_embd != plan.n_embd or loaded.n_layers != mine.last - mine.first:
            raise BadModel(
                "the shard is not what the plan describes",
                hint="use the same version of Atoll everywhere",
            )
        self.shard_bytes, self.kv_bytes = shard.size_bytes, kv
        self.loaded = loaded
        return loaded

    async def close(self) -> None:
        """End the process, and let the shard go."""
        await self.process.close()
        self._seeker.close()

    def _computed(self, message: Computed, payload: bytes) -> None:
        self.on_computed(message, payload)

    def _parcel(self, answer: ParcelAnswer, data: bytes) -> None:
        self.on_parcel(answer, data)

    def _gone(self, fault: EngineFault) -> None:
        self.is_gone = True
        self.on_exit(fault)
