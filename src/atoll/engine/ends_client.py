"""The gateway's handle on its ends process."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from atoll.domain.errors import EngineFault
from atoll.domain.generation import GenerateRequest
from atoll.engine.child import EngineChild
from atoll.engine.devices import Device
from atoll.engine.ends_messages import (
    Close,
    EndsLoaded,
    EndsOptions,
    EndsReply,
    Head,
    ItemsDone,
    Open,
    RunItems,
    Tail,
)
from atoll.engine.parcel_messages import GivenIn, ParcelAnswer, ParcelOrder, TakenOut
from atoll.engine.threads import child_environment

MODULE = "atoll.engine.ends_process"


class EndsProcess:
    """One ends process: loaded by `start`, then given one batch at a time.

    Args:
        on_done: Takes the answer to each batch.
        on_exit: Called once if the process ends without being asked to.
        on_parcel: Takes the answer to each order about a parcel.
    """

    def __init__(
        self,
        on_done: Callable[[ItemsDone, bytes], None],
        on_exit: Callable[[EngineFault], None],
        on_parcel: Callable[[ParcelAnswer, bytes], None] | None = None,
    ) -> None:
        self._on_parcel = on_parcel
        self._on_done = on_done
        self._batch = 0
        decoder = msgspec.msgpack.Decoder(EndsReply)
        self._child = EngineChild[EndsLoaded | ItemsDone | ParcelAnswer](
            "ends process", decoder, self._reply, on_exit
        )

    @property
    def pid(self) -> int | None:
        """The process id, once started."""
        return self._child.pid

    async def start(
        self,
        options: EndsOptions,
        *,
        memory_bytes: int | None,
        spin: int | None,
        gpu: Device | None = None,
    ) -> EndsLoaded:
        """Start the process and load both ends; the arguments are those of a stage's process.

        Raises:
            EngineFault: The process or a shard cannot be had.
        """
        env = child_environment(spin)
        if gpu is not None:
            options, memory_bytes = msgspec.structs.replace(options, device=gpu.name), None
        loaded = await self._child.start(
            MODULE, options, memory_bytes=memory_bytes, env=env, devices=gpu is not None
        )
        if not isinstance(loaded, EndsLoaded):
            raise EngineFault("the ends process answered out of turn")
        return loaded

    def open(self, slot: int, request: GenerateRequest) -> None:
        """Set up the sampler of a session."""
        self._child.send(Open(slot, request))

    def close_slot(self, slot: int, *, keep: bool = False) -> None:
        """Forget the sampler and, unless they are to be kept, the caches of a slot."""
        self._child.send(Close(slot, keep))

    def run(self, items: tuple[Head | Tail, ...], payloads: Sequence[bytes]) -> int:
        """Compute a batch; the answer comes by `on_done` with the number returned here."""
        self._batch += 1
        self._child.send(RunItems(self._batch, items), *payloads)
        return self._batch

    def order_parcel(self, order: ParcelOrder, parcel: bytes = b"") -> None:
        """Have a parcel made or loaded, behind the running batch; `on_parcel` has the answer."""
        self._child.send(order, parcel)

    async def close(self) -> None:
        """End the process."""
        await self._child.close()

    def _reply(self, message: EndsLoaded | ItemsDone | ParcelAnswer, payload: bytes) -> None:
        if isinstance(message, TakenOut | GivenIn) and self._on_parcel is not None:
            self._on_parcel(message, payload)
            return
        if not isinstance(message, ItemsDone):
            raise EngineFault("the ends process answered out of turn")
        self._on_done(message, payload)
