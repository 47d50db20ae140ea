"""Times the gateway's own part of a step: both ends, for windows of several sizes.

The ends process is the one that serves, before it has sessions. Each timed call
does what a window needs of the ends in all: its rows through the first layers,
its rows through the last ones, and a token sampled.
"""

from __future__ import annotations

import asyncio
import logging
import time

import numpy as np

from atoll.domain.errors import EngineFault
from atoll.domain.generation import GenerateRequest
from atoll.domain.measure import WindowTime, rows_for
from atoll.domain.wire import F16_SCALED
from atoll.engine import codec
from atoll.engine.ends_client import EndsProcess
from atoll.engine.ends_messages import Head, ItemsDone, Tail
from atoll.gateway.options import RingOptions
from atoll.node.probe_fit import rising

log = logging.getLogger(__name__)

BUDGET_S = 1.0
"""What all timed calls may take together; where one call is slow there are fewer."""
CALL_S = 30.0
SAMPLES_MIN, SAMPLES_MAX = 3, 100
QUARTILE = 0.25
"""As for a node's layers (`node.probe`)."""
SLOT = 0
TOKEN = 0
"""Which token goes through the first layers makes no difference to their time."""


class EndsTiming:
    """One timing of one ends process; it must be given the process's answers.

    Args:
        process: The ends, loaded and idle.
        n_embd: Width of a hidden state.
        ring: The ring's shape.
    """

    def __init__(self, process: EndsProcess, n_embd: int, ring: RingOptions) -> None:
        self._process = process
        self._n_embd = n_embd
        self._rows = rows_for(min(ring.rows_max, ring.context))
        # Windows stand behind others of their session, as they do when it is under way.
        self._keep = min(self._rows[-1], ring.context - self._rows[-1])
        self._answer: asyncio.Future[ItemsDone] = asyncio.get_running_loop().create_future()
        self._at_s = 0.0

    def done(self, message: ItemsDone) -> None:
        """The process has answered."""
        self._at_s = time.perf_counter()
        if not self._answer.done():
            self._answer.set_result(message)

    def gone(self, fault: EngineFault) -> None:
        """The process has ended."""
        if not self._answer.done():
            self._answer.set_exception(fault)

    async def run(self) -> tuple[WindowTime, ...]:
        """Seconds for each window size, from handing the work over until the answer.

        Raises:
            EngineFault: The process ended, hangs, or cannot compute.
        """
        self._process.open(SLOT, GenerateRequest((TOKEN,), 1, ignore_eos=True))
        try:
            if self._keep:
                await self._call(0, self._keep)
            found = [await self._time(rows) for rows in self._rows]
        finally:
            self._process.close_slot(SLOT)
        seconds = rising(found)
        return tuple(WindowTime(rows, s) for rows, s in zip(self._rows, seconds, strict=True))

    async def _time(self, rows: int) -> float:
        """The fastest quarter of several calls; the first is not counted."""
        budget_s = BUDGET_S / len(self._rows)
        await self._call(self._keep, rows)
        calls: list[float] = []
        until_s = time.perf_counter() + budget_s
        while len(calls) < SAMPLES_MAX and (
            len(calls) < SAMPLES_MIN or time.perf_counter() < until_s
        ):
            calls.append(await self._call(self._keep, rows))
            if calls[-1] > budget_s:
                break
        return float(np.quantile(calls, QUARTILE))

    async def _call(self, keep: int, rows: int) -> float:
        self._answer = asyncio.get_running_loop().create_future()
        hidden = np.random.default_rng(rows).standard_normal((rows, self._n_embd))
        window = codec.encode(hidden.astype(np.float32), F16_SCALED)
        items = (
            Head(SLOT, keep, False, F16_SCALED, (TOKEN,) * rows),
            Tail(SLOT, keep, False, F16_SCALED, rows, sample=True, chain=False, last=False),
        )
        start_s = time.perf_counter()
        self._process.run(items, [window])
        try:
            async with asyncio.timeout(CALL_S):
                answer = await self._answer
        except TimeoutError:
            raise EngineFault(f"the ends took longer than {CALL_S:g} s for {rows} rows") from None
        problem = next((result.problem for result in answer.results if result.problem), "")
        if problem:
            raise EngineFault(f"the ends cannot be timed: {problem}")
        return self._at_s - start_s
