"""Stages that a node has loaded in case those who serve them are lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import NoReturn

from atoll.domain.control import Plan, StagePlan, StandsBy
from atoll.domain.errors import AtollError
from atoll.node.stage_engine import Part, StageEngine, part_of

log = logging.getLogger(__name__)


class Standbys:
    """Loads what the gateway asks for, one stage after the other.

    Args:
        make: Makes the engine of a plan's stage, not loaded.
        send: Tells the gateway of each that is loaded.
    """

    def __init__(
        self, make: Callable[[Plan, StagePlan], StageEngine], send: Callable[[StandsBy], None]
    ) -> None:
        self._make = make
        self._send = send
        self._ready: dict[Part, StageEngine] = {}
        self._asked: asyncio.Queue[tuple[Plan, tuple[StagePlan, ...]]] = asyncio.Queue(1)

    def ask(self, plan: Plan, stages: tuple[StagePlan, ...]) -> None:
        """Have these stages loaded, and no others."""
        if self._asked.full():
            self._asked.get_nowait()  # only the newest counts
        self._asked.put_nowait((plan, stages))

    def take(self, plan: Plan, stage: StagePlan) -> StageEngine | None:
        """The engine of a stage, if it is loaded: it is the caller's from now on."""
        engine = self._ready.pop(part_of(plan, stage), None)
        return None if engine is not None and engine.is_gone else engine

    async def run(self) -> NoReturn:
        """Load what is asked for, until cancelled."""
        try:
            asked = await self._asked.get()
            while True:
                async with asyncio.TaskGroup() as tasks:
                    loading = tasks.create_task(self._load(*asked), name="load-standbys")
                    asked = await self._asked.get()
                    loading.cancel()
        finally:
            for engine in self._ready.values():
                await engine.close()

    async def _load(self, plan: Plan, stages: tuple[StagePlan, ...]) -> None:
        wanted = {part_of(plan, stage): stage for stage in stages}
        for part in [p for p, e in self._ready.items() if p not in wanted or e.is_gone]:
            await self._ready.pop(part).close()
        for part, stage in wanted.items():
            if part not in self._ready:
                engine = self._make(plan, stage)
                try:
                    await engine.load()
                except AtollError as error:
                    # It is no fault of the ring's: another node may stand by for it.
                    log.warning("standbys.not_loaded problem=%s", error.problem)
                    await engine.close()
                    continue
                except asyncio.CancelledError:
                    await engine.close()
                    raise
                self._ready[part] = engine
            self._send(StandsBy(plan.epoch, stage.first, stage.last))
