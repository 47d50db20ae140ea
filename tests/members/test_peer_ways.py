"""Pairs of nodes that are asked for the way between them, and what is made of what they say."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import cast

import pytest
from tests.support.hand_node import a_join
from tests.support.rings import wait_until

from atoll.domain.address import Address, HostPort
from atoll.domain.control import ControlMessage
from atoll.domain.ids import NodeId
from atoll.domain.timing import BURST_BYTES_MAX, PeerNotTimed, PeerTimed, TimePeer
from atoll.members import peer_ways as module
from atoll.members.member import Member
from atoll.members.peer_ways import BUSY_BURST_BYTES, PeerWays
from atoll.net.link import ControlLink
from atoll.plan.fleet import LinkEntry

A, B, C = (NodeId(letter * 64) for letter in "abc")
AT_A, AT_B = (Address(HostPort("127.0.0.1", port)) for port in (1, 2))


@dataclass
class Link:
    """A control link of a node that is driven by hand."""

    peer: NodeId
    peer_host: str = "127.0.0.1"
    carrier: str = "tls"
    sent: list[TimePeer] = field(default_factory=list)

    def send(self, message: ControlMessage) -> bool:
        assert isinstance(message, TimePeer)
        self.sent.append(message)
        return True


@dataclass
class Nodes:
    """Members by their first letter, and the ways between them."""

    ways: PeerWays
    links: dict[NodeId, Link] = field(default_factory=dict)

    def came(self, node: NodeId, *, times_peers: bool = True, host: str = "") -> None:
        port = ord(node[0]) - ord("a") + 1
        host = host or f"host {node[0]}"
        join = a_join("", port, host_id=host, name=node[0], times_peers=times_peers)
        link = self.links[node] = Link(node)
        self.ways.came(Member(0, node[0], "owner", join, cast(ControlLink, link)))

    async def asked(self, node: NodeId, times: int = 1) -> TimePeer:
        await wait_until(lambda: len(self.links[node].sent) >= times)
        return self.links[node].sent[-1]

    def timed(self, node: NodeId, peer: NodeId, s: float, came: float, went: float) -> None:
        self.ways.heard(node, PeerTimed(peer, s, came, went))


@pytest.fixture
async def nodes(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Nodes]:
    monkeypatch.setattr(module, "SOON_S", 0.0)
    ways = PeerWays(lambda _node: 0.01)
    yield Nodes(ways)
    ways.close()
    assert ways.links() == ()


async def test_the_worse_of_two_figures_counts(nodes: Nodes) -> None:
    nodes.came(A)
    nodes.came(B)
    assert await nodes.asked(B) == TimePeer(A, AT_A, False)
    assert await nodes.asked(A) == TimePeer(B, AT_B, True, BURST_BYTES_MAX)
    nodes.timed(A, B, 0.010, came=5e6, went=9e6)
    assert nodes.ways.links() == ()
    # B would be nearer, and claims that all it sends arrives at once.
    nodes.timed(B, A, 0.001, came=8e6, went=1e9)
    assert nodes.ways.links() == (
        LinkEntry("a", "b", 0.005, 8e6),
        LinkEntry("b", "a", 0.005, 5e6),
    )
    await asyncio.wait_for(nodes.ways.wait_settled(), 2)
    assert nodes.ways.problems() == {}


@pytest.mark.parametrize(
    "figures",
    [(math.nan, 1e6, 1e6), (-1.0, 1e6, 1e6), (0.01, math.inf, 1e6), (0.01, 1e6, 1e15)],
)
async def test_nonsense_is_refused(
    nodes: Nodes, figures: tuple[float, float, float], caplog: pytest.LogCaptureFixture
) -> None:
    nodes.came(A)
    nodes.came(B)
    await nodes.asked(A)
    nodes.timed(B, A, 0.01, 1e6, 1e6)
    nodes.timed(A, B, *figures)
    assert nodes.ways.links() == ()
    assert "peer_ways.nonsense node=a" in caplog.text
    [(ends, problem)] = nodes.ways.problems().items()
    assert ends == ("a", "b")
    assert "that cannot be" in problem


async def test_where_one_cannot_dial_the_other_one_tries(nodes: Nodes) -> None:
    nodes.came(A)
    nodes.came(B)
    await nodes.asked(A)
    # Who is to be dialled has nothing to say about it.
    nodes.ways.heard(B, PeerNotTimed(A, "not my turn"))
    nodes.ways.heard(A, PeerNotTimed(B, "nobody listens"))
    assert await nodes.asked(A, 2) == TimePeer(B, AT_B, False)
    assert await nodes.asked(B, 2) == TimePeer(A, AT_A, True, BURST_BYTES_MAX)
    nodes.timed(B, A, 0.01, 1e6, 1e6)
    nodes.timed(A, B, 0.01, 1e6, 1e6)
    assert len(nodes.ways.links()) == 2


async def test_a_way_that_cannot_be_timed_is_remembered(
    nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    nodes.came(A)
    nodes.came(B)
    await nodes.asked(A)
    nodes.ways.heard(A, PeerNotTimed(B, "nobody\x1b listens"))
    nodes.ways.heard(B, PeerNotTimed(A, "no address"))
    assert nodes.ways.problems() == {("a", "b"): "a: nobody? listens; b: no address"}
    assert "peer_ways.not_timed one=a other=b" in caplog.text
    await asyncio.wait_for(nodes.ways.wait_settled(), 2)
    # It is not asked for again at once, whatever else happens.
    nodes.came(C)
    await nodes.asked(C)
    nodes.timed(A, C, 0.01, 1e6, 1e6)
    nodes.timed(C, A, 0.01, 1e6, 1e6)
    assert (await nodes.asked(B, 3)).peer == C
    assert [order.peer for order in nodes.links[A].sent] == [B, B, C]


async def test_who_comes_back_is_asked_again(nodes: Nodes) -> None:
    nodes.came(A)
    nodes.came(B)
    await nodes.asked(A)
    nodes.timed(A, B, 0.01, 1e6, 1e6)
    nodes.timed(B, A, 0.01, 1e6, 1e6)
    nodes.ways.left(B)
    assert nodes.ways.links() == ()
    nodes.came(B)
    await nodes.asked(A, 2)
    # In the middle of it the other one goes.
    nodes.ways.left(A)
    nodes.timed(B, A, 0.01, 1e6, 1e6)
    assert nodes.ways.links() == ()
    await asyncio.wait_for(nodes.ways.wait_settled(), 2)


async def test_who_does_not_answer_is_not_waited_for(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAIT_S", 0.05)
    monkeypatch.setattr(module, "LEASE_S", 0.1)
    ways = PeerWays(lambda _node: None)
    hurried = Nodes(ways)
    hurried.came(A)
    hurried.came(B)
    await asyncio.wait_for(ways.wait_settled(), 2)
    await wait_until(ways.problems)
    assert ways.problems() == {("a", "b"): "no answer within 0.1 s"}
    # What comes later is not heard.
    hurried.timed(A, B, 0.01, 1e6, 1e6)
    hurried.timed(B, A, 0.01, 1e6, 1e6)
    assert ways.links() == ()
    ways.close()


async def test_it_is_done_again_and_a_way_may_be_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SOON_S", 0.0)
    monkeypatch.setattr(module, "AGAIN_S", 0.01)
    ways = PeerWays(lambda _node: 0.01)
    nodes = Nodes(ways)
    nodes.came(A)
    nodes.came(B)
    await nodes.asked(A)
    nodes.timed(A, B, 0.01, 1e6, 1e6)
    nodes.timed(B, A, 0.01, 1e6, 1e6)
    await nodes.asked(A, 2)
    # Meanwhile the old figures count.
    assert len(ways.links()) == 2
    nodes.ways.heard(A, PeerNotTimed(B, "gone"))
    nodes.ways.heard(B, PeerNotTimed(A, "gone"))
    assert ways.links() == ()
    ways.close()


async def test_nobody_is_asked_who_cannot_or_need_not(nodes: Nodes) -> None:
    nodes.came(A)
    nodes.came(B, times_peers=False)
    nodes.came(C, host="host a")
    await asyncio.wait_for(nodes.ways.wait_settled(), 2)
    assert [link.sent for link in nodes.links.values()] == [[], [], []]
    nodes.ways.left(B)


async def test_hosts_that_measure_themselves_come_later(nodes: Nodes) -> None:
    busy = {"host a"}
    nodes.ways.busy_hosts = lambda: busy
    for node in (A, B, C):
        nodes.came(node)
    assert (await nodes.asked(B)).peer == C
    assert nodes.links[A].sent == []
    busy.clear()
    nodes.timed(B, C, 0.01, 1e6, 1e6)
    nodes.timed(C, B, 0.01, 1e6, 1e6)
    await nodes.asked(A)


async def test_beside_a_ring_bursts_are_small(nodes: Nodes) -> None:
    nodes.ways.is_serving = lambda: True
    nodes.came(A)
    nodes.came(B)
    assert await nodes.asked(A) == TimePeer(B, AT_B, True, BUSY_BURST_BYTES)
    assert await nodes.asked(B) == TimePeer(A, AT_A, False, BUSY_BURST_BYTES)


async def test_without_being_asked_nobody_is_heard(
    nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    nodes.came(A)
    nodes.timed(A, B, 0.01, 1e6, 1e6)
    nodes.ways.heard(C, PeerNotTimed(A, "x"))
    assert "peer_ways.unasked node=a" in caplog.text
    assert nodes.ways.links() == ()
