"""Watches while rings serve whether others would be worth the move.

It looks again when somebody came or left, and now and then, as links and nodes
change: what a stage takes counts more than what was once measured, or said. Small
gains are no reason: a move costs what loading and linking take, and forecasts are
not that exact. Shards that nodes lack are fetched while the old rings serve.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import NoReturn

from atoll.domain.errors import AtollError
from atoll.gateway.casting import Cast, Caster, Times
from atoll.gateway.ends_keeper import EndsKeeper
from atoll.gateway.known_times import known_times
from atoll.gateway.prefetching import Prefetcher
from atoll.members.fleet import Fleet
from atoll.members.member import Member
from atoll.node.probe_drift import Drift, Work, is_stale

log = logging.getLogger(__name__)

GAIN = 1.25
"""Tokens per second of the new ring ÷ those of the old one, both foretold now."""
LOOK_S = 60.0
RETRY_S = 600.0
"""Pause before shards are fetched for better rings again once that has failed, unless
somebody came or left."""


class Replanner:
    """Compares the rings that serve with the best that there could be.

    Args:
        fleet: The nodes.
        caster: Plans rings.
        ends: The gateway's ends, as they were timed.
        tell: Takes one line at a time for the operator to read.
    """

    def __init__(
        self, fleet: Fleet, caster: Caster, ends: EndsKeeper, *, tell: Callable[[str], None]
    ) -> None:
        self._fleet = fleet
        self._caster = caster
        self._ends = ends
        self._tell = tell
        self._prefetcher = Prefetcher(fleet, caster.manifest, tell=tell)
        self._failed = (0, -RETRY_S)
        self._drifts: dict[int, list[tuple[Member, Drift]]] = {}

    async def watch(
        self,
        standing: Callable[[], Sequence[Cast]],
        rearrange: Callable[[Sequence[Cast]], None],
        rings_max: int,
    ) -> NoReturn:
        """Have rings rearranged whenever others are worth it, until cancelled.

        Args:
            standing: The rings that serve; empty while that is about to change.
            rearrange: Takes the rings that there are to be instead.
            rings_max: Most rings.
        """
        while True:
            changes = self._fleet.changes
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._fleet.wait_change(changes)
            await self._fleet.measuring.wait_settled()
            casts = standing()
            self._note_drifts(casts)
            gain, better = await self._better(casts, rings_max)
            if better and standing() == casts:
                gain = await self._prepared(gain, better, casts)
                if gain >= GAIN and standing() == casts:
                    self._tell(
                        f"other rings would be {gain:.1f} times as fast: the rings are rearranged"
                    )
                    rearrange(better)

    def _note_drifts(self, casts: Sequence[Cast]) -> None:
        """Heed what stages take beside what was measured."""
        self._drifts = {id(cast): self._drifts.get(id(cast)) or _drifts(cast) for cast in casts}
        for drifts in self._drifts.values():
            for member, drift in drifts:
                _note(member, drift)

    async def _better(self, casts: Sequence[Cast], rings_max: int) -> tuple[float, Sequence[Cast]]:
        """What others gain, and rings that are worth leaving these for; empty if none are."""
        everybody, times = self._fleet.everybody, self._times()
        try:
            gain, better = await self._caster.better(casts, everybody, times, rings_max=rings_max)
        except AtollError as error:
            log.info("replanner.no_plan problem=%s", error.problem)
            return 0.0, ()
        log.info("replanner.looked gain=%.2f", gain)
        return gain, better if gain >= GAIN else ()

    async def _prepared(self, gain: float, better: Sequence[Cast], casts: Sequence[Cast]) -> float:
        """What better rings gain, all nodes having their shards; 0 where some cannot."""
        members = [member for cast in better for member in cast.members]
        entries = [entry for cast in better for entry in cast.entries]
        if not self._prefetcher.missing(members, entries):
            return gain
        changes, failed_s = self._failed
        clock = asyncio.get_running_loop().time
        if self._fleet.changes == changes and clock() < failed_s + RETRY_S:
            return 0.0
        changes = self._fleet.changes
        try:
            await self._prefetcher.fetch(members, entries)
        except AtollError as error:
            self._failed = (changes, clock())
            self._tell(f"the rings stay as they are, better ones have to wait: {error}")
            return 0.0
        # It may have taken long: does the gain still hold?
        return self._caster.gain(better, casts, self._fleet.everybody, self._times())

    def _times(self) -> Times | None:
        links = self._fleet.measuring.distances.links()
        return known_times(self._ends.window_s, self._fleet.everybody, links)


def _drifts(current: Cast) -> list[tuple[Member, Drift]]:
    """For each member with a part what compares its work with what was measured."""
    return [
        (member, Drift(member.measured, entry.last - entry.first))
        for member, entry in zip(current.members, current.entries, strict=True)
        if member.measured is not None
    ]


def _note(member: Member, drift: Drift) -> None:
    report = member.report
    ratio = drift.note(Work(report.steps, report.step_rows, report.call_s)) if report else None
    if ratio is None:
        return
    slower = ratio if is_stale(ratio) else 1.0
    if slower != member.slower:
        log.warning("replanner.drift node=%s taken_over_measured=%.2f", member.name, ratio)
    member.slower = slower
