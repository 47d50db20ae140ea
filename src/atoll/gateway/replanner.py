"""Watches while a ring serves whether another one would be worth the move.

It looks again when somebody came or left, and now and then, as links and nodes
change: what a stage takes counts more than what was once measured, or said. Small
gains are no reason: a move costs what loading and linking take, and forecasts are
not that exact.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from atoll.domain.errors import AtollError
from atoll.gateway.casting import Cast, Caster
from atoll.gateway.ends_keeper import EndsKeeper
from atoll.gateway.known_times import known_times
from atoll.members.fleet import Fleet
from atoll.members.member import Member
from atoll.node.probe_drift import Drift, Work, is_stale

log = logging.getLogger(__name__)

GAIN = 1.25
"""Tokens per second of the new ring ÷ those of the old one, both foretold now."""
LOOK_S = 60.0


class Replanner:
    """Compares the ring that serves with the best that there could be.

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

    async def watch(self, current: Cast | None) -> None:
        """Have the fleet rearranged once a ring is worth leaving `current` for; maybe never."""
        drifts = _drifts(current)
        while current is not None:
            changes = self._fleet.changes
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._fleet.wait_change(changes)
            await self._fleet.measuring.wait_settled()
            for member, drift in drifts:
                _note(member, drift)
            if await self._is_better(current):
                self._fleet.on_rearranged()
                return

    async def _is_better(self, current: Cast) -> bool:
        links = self._fleet.measuring.distances.links()
        times = known_times(self._ends.window_s, self._fleet.everybody, links)
        try:
            gain = await self._caster.gain_over(current, self._fleet.everybody, times)
        except AtollError as error:
            log.info("replanner.no_plan problem=%s", error.problem)
            return False
        log.info("replanner.looked gain=%.2f", gain)
        if gain < GAIN:
            return False
        self._tell(f"another ring would be {gain:.1f} times as fast: the ring is rearranged")
        return True


def _drifts(current: Cast | None) -> list[tuple[Member, Drift]]:
    """For each member with a part what compares its work with what was measured."""
    if current is None:
        return []
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
