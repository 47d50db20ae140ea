"""A node before several lives of a gateway that the test drives by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from tests.support.hand_gateway import SECRET, Heard

from atoll.domain.address import HostPort
from atoll.domain.control import Join, Leave, Refusal, Welcome
from atoll.domain.errors import LinkFault, NotLetIn
from atoll.net.identity import Identity
from atoll.net.link import ControlLink
from atoll.net.listener import Takers, listen
from atoll.node.membership import Membership
from atoll.node.memory_daemon import MemoryDaemon
from atoll.node.options import NodeOptions
from atoll.node.returning import run_returning

pytestmark = pytest.mark.network
LOOPBACK = "127.0.0.1"
WAIT_S = 10.0


@dataclass
class Life:
    """One life of the gateway."""

    port: int
    controls: asyncio.Queue[ControlLink]

    async def let_in(self) -> tuple[ControlLink, Join]:
        control, joined = await self.hear()
        control.send(Welcome(joined.name))
        return control, joined

    async def hear(self) -> tuple[ControlLink, Join]:
        async with asyncio.timeout(WAIT_S):
            control, heard = await self.controls.get(), Heard()
            control.start(heard)
            return control, await heard.next_message(Join)


@dataclass
class Case:
    """A gateway's key and a node."""

    gateway: Identity = field(default_factory=Identity.generate)
    node: Identity = field(default_factory=Identity.generate)
    said: list[str] = field(default_factory=list)
    welcomed: int = 0

    @asynccontextmanager
    async def life(self, port: int = 0) -> AsyncIterator[Life]:
        """Like a process that is killed, it says nothing in the end."""
        controls: asyncio.Queue[ControlLink] = asyncio.Queue()
        links: list[ControlLink] = []

        def take(link: ControlLink) -> None:
            links.append(link)
            controls.put_nowait(link)

        takers = Takers(lambda *_: None, on_control=take)
        async with listen(LOOPBACK, port, identity=self.gateway, takers=takers) as listener:
            yield Life(listener.port, controls)
            for link in links:
                link.close()

    def start(self, port: int, wait_s: float) -> asyncio.Task[None]:
        """Have the node run; it computes nothing, so it is quick to come."""

        def make(let_in: Callable[[], None]) -> MemoryDaemon:
            def welcomed() -> None:
                self.welcomed += 1
                let_in()

            options = NodeOptions("shelf", "", 1, 1, lends_bytes=4 << 20)
            return MemoryDaemon(self.node, options, tell=self.said.append, welcomed=welcomed)

        membership = Membership(self.gateway.node_id, (HostPort(LOOPBACK, port),), SECRET)
        work = run_returning(membership, make, wait_s=wait_s, tell=self.said.append)
        return asyncio.get_running_loop().create_task(work, name="node")

    async def in_once(self, wait_s: float) -> tuple[asyncio.Task[None], int]:
        """Be let in, and lose the gateway; returns the node and the gateway's port."""
        async with self.life() as life:
            running = self.start(life.port, wait_s)
            _, joined = await life.let_in()
            assert joined.secret == SECRET
            await self.until(lambda: self.welcomed == 1)
        return running, life.port

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                await asyncio.sleep(0.01)


async def end_of(running: asyncio.Task[None]) -> BaseException | None:
    await asyncio.wait([running], timeout=WAIT_S)
    assert running.done()
    return running.exception()


async def test_it_comes_back_as_who_it_was() -> None:
    case = Case()
    running, port = await case.in_once(60)
    keys = []
    for _ in range(2):
        await case.until(lambda: "trying to come back" in case.said[-1])
        async with case.life(port) as life:
            control, joined = await life.let_in()
            keys.append(control.peer)
            # The ticket's secret is used up.
            assert joined.secret == ""
            await case.until(lambda: "joined" in case.said[-1])
    assert keys == [case.node.node_id] * 2
    # One line for each time, however many attempts it takes.
    away = [line for line in case.said if "trying to come back" in line]
    assert len(away) in (2, 3)
    running.cancel()
    await asyncio.wait([running], timeout=WAIT_S)
    assert running.cancelled()


async def test_a_goodbye_is_one() -> None:
    case = Case()
    async with case.life() as life:
        running = case.start(life.port, 60)
        control, _ = await life.let_in()
        control.send(Leave("the gateway is shutting down"))
        assert await end_of(running) is None


async def test_who_was_never_in_does_not_wait() -> None:
    case = Case()
    async with case.life() as life:
        port = life.port
    error = await end_of(case.start(port, 60))
    assert isinstance(error, LinkFault)
    assert "come back" not in str(error)


async def test_with_no_time_to_wait_it_ends_at_once() -> None:
    case = Case()
    running, _ = await case.in_once(0)
    error = await end_of(running)
    assert isinstance(error, LinkFault)
    assert "the gateway is gone" in error.problem
    assert case.said[-1].startswith("joined")


async def test_it_gives_up_in_the_end() -> None:
    case = Case()
    running, _ = await case.in_once(0.6)
    error = await end_of(running)
    assert isinstance(error, LinkFault)
    assert "did not come back within 0.6 s" in error.problem
    assert "atoll join" in error.hint


@pytest.mark.parametrize("final", [True, False])
async def test_a_refusal_is_heeded_if_it_is_final(final: bool) -> None:
    case = Case()
    running, port = await case.in_once(60)
    async with case.life(port) as life:
        control, _ = await life.hear()
        control.send(Refusal("this node was revoked" if final else "the gateway starts", "", final))
        if final:
            assert isinstance(await end_of(running), NotLetIn)
            return
        control.close()
        await life.let_in()
        await case.until(lambda: case.welcomed == 2)
    running.cancel()
    await asyncio.wait([running], timeout=WAIT_S)


async def test_another_key_at_its_port_is_not_the_gateway() -> None:
    case = Case()
    running, port = await case.in_once(60)
    stranger = Case()
    async with stranger.life(port) as life:
        await asyncio.sleep(0.7)
        assert life.controls.empty()
    async with case.life(port) as life:
        await life.let_in()
        await case.until(lambda: case.welcomed == 2)
    running.cancel()
    await asyncio.wait([running], timeout=WAIT_S)
