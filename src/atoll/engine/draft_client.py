"""The gateway's handle on the process of its draft model."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

import msgspec

from atoll.domain.errors import EngineFault
from atoll.engine.child import EngineChild
from atoll.engine.devices import Device
from atoll.engine.draft_messages import (
    DraftDone,
    DraftLoaded,
    DraftOptions,
    DraftReply,
    RunDraft,
    Wanted,
)
from atoll.engine.threads import child_environment

MODULE = "atoll.engine.draft_process"
YIELDS = 10
"""Added to the process's nice value: where it shares cores with stages they go first, as
somebody waits for them, and nobody for guesses."""


class DraftProcess:
    """One draft process: loaded by `start`, then given one batch at a time.

    Args:
        on_done: Takes the answer to each batch.
        on_exit: Called once if the process ends without being asked to.
    """

    def __init__(
        self, on_done: Callable[[DraftDone], None], on_exit: Callable[[EngineFault], None]
    ) -> None:
        self._on_done = on_done
        self._batch = 0
        decoder = msgspec.msgpack.Decoder(DraftReply)
        self._child = EngineChild[DraftLoaded | DraftDone](
            "draft process", decoder, self._reply, on_exit
        )

    @property
    def pid(self) -> int | None:
        """The process id, once started."""
        return self._child.pid

    async def start(
        self, options: DraftOptions, *, spin: int | None, gpu: Device | None = None
    ) -> DraftLoaded:
        """Start the process and load the model.

        Raises:
            EngineFault: The process or the model cannot be had.
        """
        env = child_environment(spin)
        if gpu is not None:
            options = msgspec.structs.replace(options, device=gpu.name)
        loaded = await self._child.start(
            MODULE, options, memory_bytes=None, env=env, devices=gpu is not None
        )
        if not isinstance(loaded, DraftLoaded):
            raise EngineFault("the draft process answered out of turn")
        with contextlib.suppress(OSError):
            # Its own threads begin with the first batch, and are as this one is.
            nice = os.getpriority(os.PRIO_PROCESS, self.pid or 0)
            os.setpriority(os.PRIO_PROCESS, self.pid or 0, nice + YIELDS)
        return loaded

    def run(self, wanted: tuple[Wanted, ...]) -> int:
        """Guess; the answer comes by `on_done` with the number returned here."""
        self._batch += 1
        self._child.send(RunDraft(self._batch, wanted))
        return self._batch

    async def close(self) -> None:
        """End the process."""
        await self._child.close()

    def _reply(self, message: DraftLoaded | DraftDone, payload: bytes) -> None:
        del payload  # it brings none
        if not isinstance(message, DraftDone):
            raise EngineFault("the draft process answered out of turn")
        self._on_done(message)
