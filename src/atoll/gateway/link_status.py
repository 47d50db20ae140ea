"""What was foretold of each link of a ring beside what is measured of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import msgspec

from atoll.domain.control import Plan, StageReport
from atoll.net.link import DataLink
from atoll.plan.report import FROM_TO, PlanReport

GATEWAY = "gateway"
"""What the gateway is called in plans."""


class LinkStatus(msgspec.Struct, frozen=True, rename=FROM_TO):
    """A link of the ring; in JSON its ends are `from` and `to`.

    `predicted_ms` is the way of a small frame, as it was foretold when the ring was
    planned, None where its parts are equal. `measured_ms` is half of the least of the
    last round trips, None before the first. `sent_bytes` went over it since it stands,
    heartbeats and all.
    """

    source: str
    target: str
    predicted_ms: float | None = None
    measured_ms: float | None = None
    sent_bytes: int = 0


def link_status(
    plan: Plan,
    foretold: PlanReport | None,
    first: DataLink | None,
    reports: Sequence[StageReport | None],
) -> tuple[LinkStatus, ...]:
    """The links in the order of the ring: to the first stage, from each to the next, and back.

    Args:
        plan: Who is in the ring.
        foretold: What it was made by, if it was planned.
        first: The gateway's link to the first stage, once it stands.
        reports: What each stage's node told last, in the plan's order; None: nothing yet.
            That of another ring, where the node has gone on, is passed over.
    """
    names = [GATEWAY, *(stage.name for stage in plan.stages), GATEWAY]
    delays_ms: list[float | None] = [None] * (len(names) - 1)
    if foretold is not None and len(foretold.links) == len(delays_ms):
        delays_ms = [link.delay_ms for link in foretold.links]
    seen = [(first.round_trip_s, first.sent_bytes) if first is not None else (None, 0)]
    for told in reports:
        if told is None or told.epoch != plan.epoch:
            seen.append((None, 0))
        else:
            seen.append((told.next_rtt_s, told.next_bytes))
    return tuple(
        LinkStatus(source, target, delay_ms, _half_ms(round_trip_s), sent_bytes)
        for (source, target), delay_ms, (round_trip_s, sent_bytes) in zip(
            pairwise(names), delays_ms, seen, strict=True
        )
    )


def _half_ms(round_trip_s: float | None) -> float | None:
    return round(1e3 * round_trip_s / 2, 3) if round_trip_s else None
