"""What was measured of a fleet, as a plan wants it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from atoll.domain.measure import NODE_S, RAM, Measured, WindowTime
from atoll.engine.devices import PROCESSOR
from atoll.gateway.casting import Times
from atoll.members.member import Member
from atoll.plan.fleet import LinkEntry, Machine


def known_times(
    ends_s: Sequence[WindowTime], members: Iterable[Member], links: Sequence[LinkEntry]
) -> Times | None:
    """Times of the ends, of the members that were measured, and of links; None without ends.

    Members that rest have no part, and no links. What a member's stage was seen to take
    counts more than what was measured.
    """
    if not ends_s:
        return None
    everybody = list(members)
    machines = {
        member.name: Machine(
            name=member.name,
            memory_bytes=free_bytes(member.measured, member.join.memory_free_bytes),
            layer_s=tuple(
                WindowTime(time.rows, time.seconds * member.slower)
                for time in member.measured.layer_s
            ),
            overhead_s=member.measured.overhead_s * member.slower + NODE_S,
            host=member.join.host_id,
        )
        for member in everybody
        if member.measured is not None and not member.resting
    }
    absent = {member.name for member in everybody} - machines.keys()
    between = tuple(link for link in links if not {link.source, link.target} & absent)
    return Times(tuple(ends_s), machines, between)


def free_bytes(measured: Measured, ram_bytes: int) -> int:
    """What is free for a stage on the device that was measured.

    Args:
        measured: What the node says; a device without a size counts as the machine's memory.
        ram_bytes: Free memory of the machine, as it said when it joined.
    """
    if measured.device == PROCESSOR:
        return ram_bytes
    sizes = [tier.free_bytes for tier in measured.memory if tier.kind != RAM]
    return max(sizes, default=0) or ram_bytes
