"""A node's handle on its stage process."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from atoll.domain.errors import EngineFault
from atoll.engine.child import EngineChild
from atoll.engine.devices import Device
from atoll.engine.parcel_messages import GivenIn, ParcelAnswer, ParcelOrder, TakenOut
from atoll.engine.stage_messages import (
    Compute,
    Computed,
    Drop,
    Item,
    Loaded,
    StageOptions,
    StageReply,
)
from atoll.engine.threads import child_environment

MODULE = "atoll.engine.stage_process"
ENGINE_SPARE_BYTES = 2 * 1024**3
"""Address space beside weights and caches: libraries, thread stacks, compute buffers."""


class StageProcess:
    """One stage process: loaded by `start`, then given one batch at a time.

    Args:
        on_computed: Takes the answer to each batch.
        on_exit: Called once if the process ends without being asked to.
        on_parcel: Takes the answer to each order about a parcel.
    """

    def __init__(
        self,
        on_computed: Callable[[Computed, bytes], None],
        on_exit: Callable[[EngineFault], None],
        on_parcel: Callable[[ParcelAnswer, bytes], None] | None = None,
    ) -> None:
        self._on_parcel = on_parcel
        self._on_computed = on_computed
        decoder = msgspec.msgpack.Decoder(StageReply)
        self._child = EngineChild[Loaded | Computed | ParcelAnswer](
            "stage process", decoder, self._reply, on_exit
        )

    @property
    def pid(self) -> int | None:
        """The process id, once started."""
        return self._child.pid

    async def start(
        self,
        options: StageOptions,
        *,
        memory_bytes: int | None,
        spin: int | None,
        gpu: Device | None = None,
    ) -> Loaded:
        """Start the process and load the shard.

        Args:
            options: What to load and how.
            memory_bytes: Most address space it may take; None: no bound.
            spin: How long idle worker threads spin (see `engine.threads`).
            gpu: The GPU that takes the shard, whose driver no bound on the address
                space would let work; None: the processor.

        Raises:
            EngineFault: The process or the shard cannot be had.
        """
        env = child_environment(spin)
        if gpu is not None:
            options, memory_bytes = msgspec.structs.replace(options, device=gpu.name), None
        loaded = await self._child.start(
            MODULE, options, memory_bytes=memory_bytes, env=env, devices=gpu is not None
        )
        if not isinstance(loaded, Loaded):
            raise EngineFault("the stage process answered out of turn")
        return loaded

    def compute(self, batch: int, items: tuple[Item, ...], payloads: Sequence[bytes]) -> None:
        """Run the layers over a batch; the answer comes by `on_computed`."""
        self._child.send(Compute(batch, items), *payloads)

    def drop(self, slot: int) -> None:
        """Clear a slot's cache, behind the running batch."""
        self._child.send(Drop(slot))

    def order_parcel(self, order: ParcelOrder, parcel: bytes = b"") -> None:
        """Have a parcel made or loaded, behind the running batch; `on_parcel` has the answer."""
        self._child.send(order, parcel)

    async def close(self) -> None:
        """End the process."""
        await self._child.close()

    def _reply(self, message: Loaded | Computed | ParcelAnswer, payload: bytes) -> None:
        if isinstance(message, TakenOut | GivenIn) and self._on_parcel is not None:
            self._on_parcel(message, payload)
            return
        if not isinstance(message, Computed):
            raise EngineFault("the stage process answered out of turn")
        self._on_computed(message, payload)
