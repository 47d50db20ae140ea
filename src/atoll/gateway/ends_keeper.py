"""Keeps the ends process running: from ring to ring, and anew when it ended."""

from __future__ import annotations

from collections.abc import Callable

from atoll.domain.errors import EngineFault
from atoll.engine.ends_client import EndsProcess
from atoll.engine.ends_messages import EndsLoaded, EndsOptions, ItemsDone
from atoll.engine.place import place
from atoll.gateway.options import RingOptions


class EndsKeeper:
    """The ends process across rings.

    Args:
        asked: Where the ends' files lie.
        options: The ring's shape.
        done: Takes what the ends computed.
        gone: Told when the process ends by itself.
    """

    def __init__(
        self,
        asked: EndsOptions,
        options: RingOptions,
        *,
        done: Callable[[ItemsDone, bytes], None],
        gone: Callable[[EngineFault], None],
    ) -> None:
        self._asked = asked
        self._options = options
        self._done = done
        self._tell_gone = gone
        self._process: EndsProcess | None = None
        self._ended = False
        self.loaded: EndsLoaded | None = None
        """What the process said when it was loaded."""

    @property
    def pid(self) -> int | None:
        """The process, while it runs."""
        return self._process.pid if self._process else None

    async def ready(self) -> EndsProcess:
        """The process: running already, or started now in place of one that ended.

        Raises:
            EngineFault: It does not start.
        """
        if self._process is not None and not self._ended:
            return self._process
        if self._process is not None:
            await self._process.close()
        self._ended = True
        self._process = process = EndsProcess(self._done, self._gone)
        asked, options = self._asked, self._options
        gpu = await place(options.gpu, asked.need_bytes)
        self.loaded = await process.start(asked, memory_bytes=None, spin=options.spin, gpu=gpu)
        self._ended = False
        return process

    def replace(self) -> None:
        """It hangs: start another one for the next ring."""
        self._ended = True

    async def close(self) -> None:
        """End the process."""
        if self._process is not None:
            await self._process.close()

    def _gone(self, fault: EngineFault) -> None:
        self._ended = True
        self._tell_gone(fault)
