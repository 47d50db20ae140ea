"""Keeps the draft model's process running: from ring to ring, and anew when it ended.

Nothing depends on it: without it a ring guesses by lookup alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from atoll.domain.errors import AtollError, EngineFault
from atoll.engine.draft_client import DraftProcess
from atoll.engine.draft_messages import DraftDone, DraftOptions, Wanted
from atoll.engine.place import place
from atoll.gateway.options import RingOptions
from atoll.ring import coordinator_messages as ring

log = logging.getLogger(__name__)


class DraftKeeper:
    """The draft process across rings.

    Args:
        asked: What to load; None: there is no draft model.
        options: The ring's.
        done: Takes guesses.
        gone: Told why there are no more.
    """

    def __init__(
        self,
        asked: DraftOptions | None,
        options: RingOptions,
        *,
        done: Callable[[ring.DraftDone], None],
        gone: Callable[[AtollError], None],
    ) -> None:
        self._asked = asked
        self._options = options
        self._done = done
        self._tell_gone = gone
        self._process: DraftProcess | None = None
        self._ended = False
        self._batch = 0

    @property
    def pid(self) -> int | None:
        """The process, while it runs."""
        return self._process.pid if self._process and not self._ended else None

    async def ready(self) -> bool:
        """Whether there is a draft model; its process is started where it does not run."""
        if self._asked is None:
            return False
        if self._process is not None and not self._ended:
            return True
        try:
            await self._start(self._asked)
        except AtollError as error:
            self._tell_gone(error)
            return False
        return True

    async def _start(self, asked: DraftOptions) -> None:
        await self.close()
        self._process = process = DraftProcess(self._take, self._gone)
        gpu = await place(self._options.gpu, asked.need_bytes)
        await process.start(asked, spin=self._options.spin, gpu=gpu)
        self._ended = False

    def run(self, items: tuple[ring.DraftItem, ...]) -> None:
        """Have it guess; what was asked before is of no use any more."""
        if self._process is None or self._ended:
            return
        wanted = tuple(Wanted(i.slot, i.keep, i.tokens, i.hints, i.n, i.sampling) for i in items)
        self._batch = self._process.run(wanted)

    async def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._ended = True
            await self._process.close()

    def _take(self, message: DraftDone) -> None:
        if message.batch != self._batch:
            return
        for drafted in message.drafted:
            if drafted.problem:
                log.warning("draft.failed problem=%s", drafted.problem)
        guesses = tuple(None if d.problem else d.tokens for d in message.drafted)
        self._done(ring.DraftDone(guesses, message.took_s))

    def _gone(self, fault: EngineFault) -> None:
        self._ended = True
        self._tell_gone(fault)
