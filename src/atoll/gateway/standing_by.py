"""Which nodes without a part have which stages loaded, in case those are lost."""

from __future__ import annotations

from collections.abc import Sequence

from atoll.domain.control import PlanNotice, StandBy
from atoll.gateway.casting import Cast
from atoll.members.member import Member

MEMORY_SHARE = 2
"""A node stands by with at most half of its free memory."""


class StandingBy:
    """Asks free nodes to stand by, each for stages of one ring."""

    def __init__(self) -> None:
        # By node: what it was asked for last.
        self._asked: dict[int, tuple[PlanNotice, tuple[int, ...]]] = {}

    def ask(
        self, rings: Sequence[tuple[Cast, PlanNotice]], free: Sequence[Member], cache_bytes: int
    ) -> None:
        """Have free nodes stand by for the rings that serve.

        Args:
            rings: Who computes what, and the plan that says so.
            free: Who has no part.
            cache_bytes: What the caches of one layer take, at most.
        """
        self._asked = {key: asked for key, asked in self._asked.items() if key in map(id, free)}
        if not rings:
            return
        for number, member in enumerate(free):
            cast, notice = rings[number % len(rings)]
            stages = _stages(cast, member, number // len(rings), cache_bytes)
            if self._asked.get(id(member)) != (notice, stages):
                self._asked[id(member)] = (notice, stages)
                member.stands_by.clear()
                member.link.send(StandBy(notice, stages))


def _stages(cast: Cast, member: Member, first: int, cache_bytes: int) -> tuple[int, ...]:
    """Places in the ring, as many as fit, from another one on for each node."""
    room = member.join.memory_free_bytes // MEMORY_SHARE
    n = len(cast.entries)
    found: list[int] = []
    for place in [(first + i) % n for i in range(n)]:
        entry = cast.entries[place]
        room -= entry.size_bytes + (entry.last - entry.first) * cache_bytes
        if room < 0:
            break
        found.append(place)
    return tuple(found)
