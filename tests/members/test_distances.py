"""Round trips to nodes, by echoes on their control links."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import cast

import pytest
from tests.support.hand_node import a_join

from atoll.domain.control import ControlMessage, Echo, EchoBack
from atoll.domain.ids import NodeId
from atoll.members import distances as module
from atoll.members.distances import PADDING_BYTES, SMALL, Distances
from atoll.members.member import Member
from atoll.net.link import ControlLink

NODE = NodeId("1" * 64)


@dataclass
class Link:
    """A link whose node answers after a while; what is long takes longer."""

    distances: Distances
    peer: NodeId = NODE
    delay_s: float = 0.01
    longer_s: float = 0.02
    answers: bool = True
    sent: list[Echo] = field(default_factory=list)

    def send(self, message: ControlMessage) -> bool:
        assert isinstance(message, Echo)
        self.sent.append(message)
        if self.answers:
            delay_s = self.delay_s + (self.longer_s if message.padding else 0)
            asyncio.get_running_loop().call_later(
                delay_s, self.distances.heard, self.peer, EchoBack(message.number)
            )
        return True


def member(link: Link) -> Member:
    return Member(0, "reef", "owner", a_join("", 1), cast(ControlLink, link))


async def test_latency_and_rate() -> None:
    distances = Distances()
    link = Link(distances)
    distances.came(member(link))
    async with asyncio.timeout(5):
        await distances.wait_known()
    there, back = distances.links()
    assert (there.source, there.target) == (back.target, back.source) == ("gateway", "reef")
    assert 0.005 <= there.latency_s < 0.02
    assert 0.2 * PADDING_BYTES / 0.02 < there.bytes_per_s < 2 * PADDING_BYTES / 0.02
    assert [len(echo.padding) for echo in link.sent] == [0] * SMALL + [PADDING_BYTES]
    distances.close()
    assert distances.links() == ()


async def test_less_than_a_millisecond_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop's clock has not moved between the echo and its answer."""
    distances = Distances()
    link = Link(distances, delay_s=0.0, longer_s=0.0)
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: 1.0)
    distances.came(member(link))
    async with asyncio.timeout(5):
        await distances.wait_known()
    assert distances.links()[0].latency_s > 0
    distances.close()


async def test_it_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AGAIN_S", 0.01)
    distances = Distances()
    link = Link(distances, delay_s=0.0, longer_s=0.0)
    distances.came(member(link))
    async with asyncio.timeout(5):
        while len(link.sent) < 3 * SMALL:
            await asyncio.sleep(0.01)
    assert distances.links()[0].bytes_per_s <= module.BYTES_PER_S_MAX
    distances.close()


async def test_a_node_that_does_not_answer_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "WAIT_S", 0.05)
    distances = Distances()
    distances.came(member(Link(distances, answers=False)))
    await asyncio.wait_for(distances.wait_known(), 2)
    assert distances.links() == ()
    # Numbers that nobody waits for, and nodes that nobody knows, change nothing.
    distances.heard(NODE, EchoBack(99))
    distances.heard(NodeId("2" * 64), EchoBack(1))
    distances.left(NODE)
    await asyncio.wait_for(distances.wait_known(), 0.04)
