"""Each link of a ring: what was foretold beside what is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import msgspec
from tests.gateway.test_ring_plan import MANIFEST, OPTIONS, member

from atoll.domain.address import Address
from atoll.domain.control import Plan, StageReport
from atoll.domain.ids import Epoch, NodeId
from atoll.gateway.casting import Cast
from atoll.gateway.link_status import LinkStatus, link_status
from atoll.gateway.ring_plan import make_plan
from atoll.net.link import DataLink
from atoll.plan.report import LinkReport, PlanReport


@dataclass
class Link:
    """What is told of the gateway's own link."""

    round_trip_s: float | None
    sent_bytes: int = 0


def first(round_trip_s: float | None, sent_bytes: int = 0) -> DataLink:
    return cast(DataLink, Link(round_trip_s, sent_bytes))


def a_plan() -> Plan:
    """Stages n0 and n1."""
    ring = Cast((member(0), member(1)), MANIFEST.shards)
    gateway = (NodeId("f" * 64), Address())
    return make_plan(Epoch(1, 1), MANIFEST, ring, OPTIONS, gateway=gateway)


def a_report(next_rtt_s: float, next_bytes: int = 0, *, epoch: int = 1) -> StageReport:
    zeros = {field.name: 0 for field in msgspec.structs.fields(StageReport)}
    values = zeros | {"epoch": Epoch(1, epoch), "isolation": ()}
    return msgspec.convert(
        values | {"next_rtt_s": next_rtt_s, "next_bytes": next_bytes}, StageReport
    )


def foretold(*delays_ms: float) -> PlanReport:
    return PlanReport(
        *(1, 64, 512, 3.75, 266.0, 80.0, 1.9, 0.1),
        stages=(),
        left_out=(),
        reason="",
        more_of="",
        more_gain=1.0,
        gap=0.0,
        links=tuple(LinkReport("x", "y", delay_ms, 1e6, delay_ms) for delay_ms in delays_ms),
    )


def test_half_a_round_trip_beside_what_was_foretold() -> None:
    found = link_status(
        *(a_plan(), foretold(1.0, 20.0, 4.0), first(0.003, 77)),
        [a_report(0.05, 88), a_report(0.001, 99)],
    )
    assert found == (
        LinkStatus("gateway", "n0", 1.0, 1.5, 77),
        LinkStatus("n0", "n1", 20.0, 25.0, 88),
        LinkStatus("n1", "gateway", 4.0, 0.5, 99),
    )


def test_equal_parts_are_measured_too() -> None:
    found = link_status(a_plan(), None, first(0.003), [a_report(0.05), a_report(0.001)])
    assert [link.predicted_ms for link in found] == [None] * 3
    assert [link.measured_ms for link in found] == [1.5, 25.0, 0.5]


def test_a_plan_of_another_version_foretells_no_links() -> None:
    """It tells none, or more than this ring has."""
    for other in (foretold(), foretold(1.0)):
        found = link_status(a_plan(), other, None, [None, None])
        assert [link.predicted_ms for link in found] == [None] * 3


def test_what_is_not_measured_yet_is_not_zero() -> None:
    found = link_status(a_plan(), foretold(1.0, 2.0, 3.0), first(None), [None, a_report(0.0)])
    assert [link.predicted_ms for link in found] == [1.0, 2.0, 3.0]
    assert [link.measured_ms for link in found] == [None] * 3
    # Not even the way to the first stage stands.
    assert link_status(a_plan(), None, None, [None, None])[0].measured_ms is None


def test_a_node_that_has_gone_on_to_another_ring_tells_nothing_of_this_one() -> None:
    reports = [a_report(0.05, 88, epoch=2), a_report(0.001, 99)]
    found = link_status(a_plan(), None, None, reports)
    assert [link.measured_ms for link in found] == [None, None, 0.5]
    assert [link.sent_bytes for link in found] == [0, 0, 99]


def test_programs_read_from_and_to() -> None:
    link = LinkStatus("gateway", "n0", None, 1.5, 7)
    told = msgspec.json.encode(link)
    assert msgspec.json.decode(told) == {
        "from": "gateway",
        "to": "n0",
        "predicted_ms": None,
        "measured_ms": 1.5,
        "sent_bytes": 7,
    }
    assert msgspec.json.decode(told, type=LinkStatus) == link
