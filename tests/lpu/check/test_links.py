"""Links: one vector at a time, and every one that is sent arrives once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.lpu.check.sound import FIRST, SENT, TIMING, conflicts, kinds, routine

from atoll.lpu.check.links import absent_links, anywhere, busy_links, unmatched
from atoll.lpu.program import Flow, Instruction, Receive, Send, Step
from atoll.lpu.topology import build, shipped_systems

HOLD = TIMING.link_cycles


def send(at: int, to: int = 1, lane: int = 0, stream: int = 0, **fields: Any) -> Send:
    return Send(at=at, to=to, lane=lane, flow=Flow("east", "out", stream, 1), **fields)


def receive(at: int, source: int = 0, lane: int = 0, **fields: Any) -> Receive:
    flow = Flow("east", "in", 0, 1)
    return Receive(at=TIMING.received(at), source=source, lane=lane, flow=flow, **fields)


def busy(*code: Instruction) -> list[tuple[int, ...]]:
    return [c.who for c in busy_links(code, TIMING)]


def alone(first: list[Instruction], second: list[Instruction]) -> list[tuple[int, str]]:
    return [(chip, c.kind) for chip, c in unmatched((first, second), TIMING)]


def test_a_link_holds_a_vector_for_some_cycles() -> None:
    assert busy(send(0), send(HOLD - 1)) == [(0, 1)]
    assert busy(send(0), send(HOLD)) == []
    assert busy(send(0), send(0, to=2)) == busy(send(0), send(0, lane=1)) == []
    assert busy(send(0, count=3, stride=2 * HOLD), send(HOLD, count=2, stride=2 * HOLD)) == []
    assert busy(send(0, count=3, stride=2 * HOLD), send(3 * HOLD + 1)) == [(1, 0)]
    assert "link" in kinds(extra=[send(113 + 24)])


def test_where_links_go_is_left_out() -> None:
    assert anywhere(send(3, to=5, lane=2)) == send(3, to=0)
    assert anywhere(receive(3, source=5, lane=2)) == receive(3)
    assert anywhere(FIRST["load"]) is FIRST["load"]


def test_an_edge_has_so_many_streams_for_links() -> None:
    most = TIMING.assumed.link_streams
    lines = [send(7, lane=n, stream=n) for n in range(most + 1)]
    assert busy(*lines[:most]) == []
    assert busy(*lines) == [tuple(range(most + 1))]
    assert busy(*lines[:most], replace(lines[most], at=8)) == []
    assert busy(*lines[:most], replace(lines[most], flow=lines[0].flow)) == []
    west = Flow("west", "out", most, 1)
    assert busy(*lines[:most], replace(lines[most], flow=west)) == []
    got = [Receive(at=40, source=n, flow=Flow("west", "in", n, 1)) for n in range(most + 1)]
    [conflict] = busy_links(got, TIMING)
    assert (conflict.resource, conflict.cycle) == ("edge in the west", 40 - TIMING.edge)


def test_what_is_sent_is_received_once() -> None:
    every: dict[str, Any] = {"count": 3, "stride": 30}
    assert alone([send(0, **every)], [receive(0, **every)]) == []
    assert alone([send(0, **every)], [receive(n) for n in (60, 0, 30)]) == []
    assert alone([send(0)], []) == [(0, "lost")]
    assert alone([], [receive(0)]) == [(1, "missing")]
    assert alone([send(0)], [receive(0), receive(0)]) == [(1, "link")]
    assert alone([], []) == []
    for wrong in (receive(1), receive(0, lane=1), receive(0, source=1)):
        assert alone([send(0)], [wrong]) == [(0, "lost"), (1, "missing")]
    assert alone([send(0, **every)], [receive(0, count=2, stride=30)]) == [(0, "lost")]


@pytest.mark.parametrize(
    "change", [{"at": 762}, {"stride": 25}, {"count": 3}, {"lane": 1}, {"source": 1}]
)
def test_in_a_schedule(change: dict[str, Any]) -> None:
    found = conflicts(receive=change)
    assert any(c.kind == "lost" and c.resource.startswith("link from chip 0") for c in found)


def test_a_send_without_a_receiver_tells_its_chip() -> None:
    also = send(113 + 72 + 24, to=1)
    [missing, lost] = conflicts(extra=[also])
    assert (missing.kind, missing.resource) == ("missing", "stream east out 0")
    assert (lost.kind, lost.chip, lost.what) == (
        *("lost", 0),
        f"no chip receives it (there in phase {TIMING.received(also.at)})",
    )


def test_lanes_are_links_between_the_chips_of_a_step() -> None:
    system = build(shipped_systems().find("GroqRack"), nodes=2)
    far = next(chip for chip in system.neighbours(0) if chip >= 8)
    step = Step(0, (0, far), 0)
    links = system.parallel(0, far)
    assert links >= 1
    for lane in range(links + 1):
        found = list(absent_links(routine(send={"lane": lane}), step, system))
        assert len(found) == (lane == links)
    [conflict] = absent_links(routine(send={"lane": 1}), Step(0, (3, 4), 50), system)
    assert (conflict.chip, conflict.cycle, conflict.resource) == (
        3,
        50,
        "link from chip 3 to chip 4",
    )
    assert isinstance(FIRST["send"], Send)
    assert FIRST["send"].flow == SENT
