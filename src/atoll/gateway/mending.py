"""Who takes the parts of a ring that were lost, so that its sessions can go on.

Who has a part loaded already takes it; then the node whose stage died, which loads it again;
then any that is free and has the memory.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec.structs import replace

from atoll.domain.ids import NodeId
from atoll.gateway.casting import Cast
from atoll.members.member import Member
from atoll.model.manifest import ShardEntry
from atoll.plan.report import PlanReport


def mend(
    cast: Cast, sound: Collection[NodeId], present: Collection[int], free: Sequence[Member]
) -> Cast | None:
    """A cast of the same parts; None where one would be nobody's.

    Args:
        cast: The ring that lost some.
        sound: Nodes whose stages still hold what they held.
        present: Members that are in, by `id`: who left and came back is another one.
        free: Who has no part.
    """
    left = list(free)
    members: list[Member] = []
    for member, entry in zip(cast.members, cast.entries, strict=True):
        here = id(member) in present
        if here and member.link.peer in sound:
            members.append(member)
            continue
        taker = _taker(member if here else None, entry, left)
        if taker is None:
            return None
        left = [other for other in left if other is not taker]
        members.append(taker)
    return Cast(tuple(members), cast.entries, _renamed(cast.report, members))


def _taker(same: Member | None, entry: ShardEntry, free: Sequence[Member]) -> Member | None:
    part = (entry.first, entry.last)
    ready = [member for member in free if part in member.stands_by]
    roomy = [m for m in free if m.join.memory_free_bytes >= 2 * entry.size_bytes]
    return next(iter((*ready, *((same,) if same else ()), *roomy)), None)


def _renamed(report: PlanReport | None, members: Sequence[Member]) -> PlanReport | None:
    """The forecast with the new names: no better one is known."""
    if report is None:
        return None
    stages = tuple(
        replace(stage, name=member.name)
        for stage, member in zip(report.stages, members, strict=True)
    )
    return replace(report, stages=stages)
