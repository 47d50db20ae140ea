"""Keeps the ends process running: from ring to ring, and anew when it ended."""

from __future__ import annotations

import logging
from collections.abc import Callable

from atoll.domain.errors import EngineFault
from atoll.domain.measure import WindowTime
from atoll.engine.ends_client import EndsProcess
from atoll.engine.ends_messages import EndsLoaded, EndsOptions, ItemsDone
from atoll.engine.parcel_messages import ParcelAnswer
from atoll.engine.place import place
from atoll.gateway.ends_timing import EndsTiming
from atoll.gateway.options import RingOptions

log = logging.getLogger(__name__)

MakeEnds = Callable[
    [
        Callable[[ItemsDone, bytes], None],
        Callable[[EngineFault], None],
        Callable[[ParcelAnswer, bytes], None] | None,
    ],
    EndsProcess,
]


class EndsKeeper:
    """The ends process across rings.

    Args:
        asked: Where the ends' files lie.
        options: The ring's shape.
        timed: Time the process before its first use.
        done: Takes what the ends computed.
        gone: Told when the process ends by itself.
        parcel: Takes its answers about parcels.
        process: Makes the process; the simulation has another one.
    """

    def __init__(
        self,
        asked: EndsOptions,
        options: RingOptions,
        *,
        timed: bool = False,
        done: Callable[[ItemsDone, bytes], None],
        gone: Callable[[EngineFault], None],
        parcel: Callable[[ParcelAnswer, bytes], None] | None = None,
        process: MakeEnds = EndsProcess,
    ) -> None:
        self._parcel = parcel
        self._make = process
        self._asked = asked
        self._options = options
        self._done = done
        self._tell_gone = gone
        self._process: EndsProcess | None = None
        self._ended = False
        self._timing: EndsTiming | None = None
        self._to_time = timed
        self.loaded: EndsLoaded | None = None
        """What the process said when it was loaded."""
        self.window_s: tuple[WindowTime, ...] = ()
        """What the ends take for windows of several sizes; empty: not measured."""

    @property
    def pid(self) -> int | None:
        """The process, while it runs."""
        return self._process.pid if self._process else None

    async def ready(self) -> EndsProcess:
        """The process: running already, or started now in place of one that ended.

        The first one is timed, if it is to be, before anybody uses it.

        Raises:
            EngineFault: It does not start.
        """
        if self._process is not None and not self._ended:
            return self._process
        process, loaded = await self._start()
        if self._to_time:
            self._to_time = False
            sound = await self._time(process, loaded.n_embd)
            if not sound:
                process, loaded = await self._start()
        self.loaded = loaded
        self._ended = False
        return process

    async def _start(self) -> tuple[EndsProcess, EndsLoaded]:
        if self._process is not None:
            await self._process.close()
        self._ended = True
        self._process = process = self._make(self._take, self._gone, self._parcel)
        asked, options = self._asked, self._options
        gpu = await place(options.gpu, asked.need_bytes)
        loaded = await process.start(asked, memory_bytes=None, spin=options.spin, gpu=gpu)
        return process, loaded

    async def _time(self, process: EndsProcess, n_embd: int) -> bool:
        """Time the process; False: it is not to be used, as it ended or may still compute."""
        self._timing = EndsTiming(process, n_embd, self._options)
        try:
            self.window_s = await self._timing.run()
        except EngineFault as fault:
            log.warning("ends.not_measured problem=%s", fault.problem)
            return False
        finally:
            self._timing = None
        return True

    def replace(self) -> None:
        """It hangs: start another one for the next ring."""
        self._ended = True

    async def close(self) -> None:
        """End the process."""
        if self._process is not None:
            await self._process.close()

    def _take(self, message: ItemsDone, payload: bytes) -> None:
        if self._timing is not None:
            self._timing.done(message)
        else:
            self._done(message, payload)

    def _gone(self, fault: EngineFault) -> None:
        self._ended = True
        if self._timing is not None:
            self._timing.gone(fault)
        else:
            self._tell_gone(fault)
