"""Connections between simulated machines, as the product's links run over them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from atoll.domain.control import ControlMessage, Leave
from atoll.domain.errors import LinkFault
from atoll.domain.ids import NodeId
from atoll.net.link import CONTROL, ControlLink, Kind, LinkSettings, NotWelcome, WrongPeer
from atoll.net.listener import Takers
from atoll.world.loop import SimLoop
from atoll.world.machine import Machine
from atoll.world.network import Network, Port
from atoll.world.trace import Trace

A, B = NodeId("a" * 64), NodeId("b" * 64)
SETTINGS = LinkSettings()


class Ear:
    """Keeps what it hears, and how the link ended."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.closed: list[LinkFault | None] = []
        self.links: list[ControlLink] = []

    def take(self, link: ControlLink) -> None:
        self.links.append(link)
        link.start(self)

    def on_message(self, message: ControlMessage) -> None:
        assert isinstance(message, Leave)
        self.heard.append(message.reason)

    def on_closed(self, reason: LinkFault | None) -> None:
        self.closed.append(reason)


class Pair:
    """Two machines, of which the second takes control links."""

    def __init__(self, authorise: Callable[[NodeId, Kind], None] = lambda _n, _k: None) -> None:
        self.loop = SimLoop()
        self.one, self.two = Machine("one", "10.0.0.1"), Machine("two", "10.0.0.2")
        for machine in (self.one, self.two):
            machine.alive, machine.life = True, 1
        self.net = Network(
            *(self.loop, random.Random(1), Trace(self.loop), [self.one, self.two]), way_s=0.01
        )
        self.near, self.far = Ear(), Ear()
        self.takers = Takers(authorise, on_control=self.far.take)
        self.port: Port | None = None

    def run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def begun() -> None:
            self.port = self.net.listen(self.two, 0, B, self.takers, SETTINGS)
            await work()

        self.loop.run_until_complete(begun())
        self.loop.close()

    async def dial(self, expected: NodeId = B) -> ControlLink:
        assert self.port is not None
        link = await self.net.dial(
            *(self.one, self.port.place, CONTROL), me=A, expected=expected, settings=SETTINGS
        )
        self.near.take(link)  # type: ignore[arg-type]  # a control link, by its kind
        return self.near.links[-1]


@pytest.fixture
def pair() -> Pair:
    return Pair()


def test_what_is_sent_arrives_in_order(pair: Pair) -> None:
    async def work() -> None:
        link = await pair.dial()
        for i in range(50):
            link.send(Leave(str(i)))
        await asyncio.sleep(1)
        assert pair.far.heard == [str(i) for i in range(50)]
        assert (link.peer, pair.far.links[0].peer) == (B, A)
        link.close()
        await asyncio.sleep(1)
        assert len(pair.far.closed) == 1
        assert pair.net.open_ends == 0

    pair.run(work)


def test_a_cut_way_keeps_what_is_sent_until_it_is_mended(pair: Pair) -> None:
    async def work() -> None:
        link = await pair.dial()
        pair.net.cut(pair.one, pair.two)
        link.send(Leave("late"))
        assert link.buffered_bytes > 0
        await asyncio.sleep(1)
        assert pair.far.heard == []
        pair.net.mend(pair.one, pair.two)
        await asyncio.sleep(1)
        assert pair.far.heard == ["late"]

    pair.run(work)


def test_both_sides_notice_a_way_that_stays_cut(pair: Pair) -> None:
    async def work() -> None:
        await pair.dial()
        pair.net.cut(pair.one, pair.two)
        await asyncio.sleep(10)
        assert "silent" in str(pair.far.closed[0])
        # The way back is open, and tells the other side.
        assert pair.near.closed

    pair.run(work)


@pytest.mark.parametrize("power", [True, False])
def test_a_machine_that_dies(pair: Pair, power: bool) -> None:
    async def work() -> None:
        await pair.dial()
        pair.two.alive, pair.two.powered = False, not power
        pair.net.died(pair.two)
        await asyncio.sleep(0.5)
        # Its system tells the other side, if it still runs.
        assert len(pair.near.closed) == (0 if power else 1)
        await asyncio.sleep(10)
        assert len(pair.near.closed) == 1
        with pytest.raises(LinkFault, match="did not answer" if power else "nobody listens"):
            await pair.dial()

    pair.run(work)


def test_a_dead_machine_says_nothing(pair: Pair) -> None:
    async def work() -> None:
        await pair.dial()
        pair.two.alive = False
        pair.net.died(pair.two)
        pair.far.links[0].send(Leave("from beyond"))
        pair.far.links[0].close()
        await asyncio.sleep(5)
        assert pair.near.heard == []

    pair.run(work)


def test_who_dials_is_looked_at() -> None:
    def authorise(_peer: NodeId, _kind: Kind) -> None:
        raise LinkFault("not you", hint="ask")

    pair = Pair(authorise)

    async def work() -> None:
        with pytest.raises(NotWelcome, match="not you"):
            await pair.dial()
        with pytest.raises(WrongPeer):
            await pair.dial(expected=A)

    pair.run(work)


def test_a_dial_waits_for_a_cut_way_but_not_for_ever(pair: Pair) -> None:
    async def work() -> None:
        pair.net.cut(pair.two, pair.one)
        pair.net.cut(pair.two, pair.one)
        for at_s in (1.0, 3.0):
            pair.loop.call_later(at_s, pair.net.mend, pair.two, pair.one)
        await pair.dial()
        assert 3.0 < pair.loop.time() < 4.0
        pair.net.cut(pair.one, pair.two)
        with pytest.raises(LinkFault, match="did not answer within 10 s"):
            await pair.dial()

    pair.run(work)
