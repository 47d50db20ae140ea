"""Two ends of a timing link, over real links and against sides that cheat."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from bench.slow_net import Path, slow_tcp

from atoll.domain.address import Address, HostPort
from atoll.domain.bulk import Parting
from atoll.domain.errors import LinkFault
from atoll.domain.timing import (
    BURST_BYTES_MAX,
    BYTES_PER_S_MAX,
    PART_BYTES,
    Hail,
    HailBack,
    PeerTimed,
    TimingMessage,
    YourTurn,
    answer_problem,
)
from atoll.net.identity import Identity
from atoll.net.link import TimingLink
from atoll.net.listener import Takers
from atoll.net.transport import Way, open_transport
from atoll.node import way_timer as module
from atoll.node.way_timer import WayTimer

pytestmark = pytest.mark.network
LOOPBACK = "127.0.0.1"


@asynccontextmanager
async def ends(
    way: Way = "tls", path: Path | None = None
) -> AsyncIterator[tuple[TimingLink, TimingLink]]:
    """A link that nobody has started: the end that dialled, and the other one."""
    taken: asyncio.Queue[TimingLink] = asyncio.Queue()
    identity = Identity.generate()
    async with (
        asyncio.timeout(30),
        open_transport(identity, way=way, host=LOOPBACK) as there,
        open_transport(Identity.generate(), way=way, host=LOOPBACK) as here,
        there.listen(LOOPBACK, 0, Takers(lambda *_: None, on_timing=taken.put_nowait)) as listener,
        slow_tcp(listener.port, path or Path()) as port,
    ):
        address = Address(tls=HostPort(LOOPBACK, port))
        if there.endpoint:
            address = Address(quic=(HostPort(LOOPBACK, there.endpoint.port),))
        near = await here.dial_timing(address, expected=identity.node_id)
        far = await taken.get()
        try:
            yield near, far
        finally:
            for link in (near, far):
                link.close()
                await link.wait_closed()


async def both(
    near: TimingLink, far: TimingLink, burst_bytes: int = BURST_BYTES_MAX
) -> tuple[PeerTimed, PeerTimed]:
    timers = WayTimer(near, burst_bytes), WayTimer(far, burst_bytes)
    leads, follows = await asyncio.gather(timers[0].run(leads=True), timers[1].run(leads=False))
    return leads, follows


@pytest.mark.parametrize("way", ["tls", "quic"])
async def test_both_ends_say_the_same(way: Way) -> None:
    if way == "quic":
        pytest.importorskip("iroh", reason="no wheel for this system")
    async with ends(way) as (near, far):
        leads, follows = await both(near, far)
        assert (leads.peer, follows.peer) == (near.peer, far.peer)
        assert answer_problem(leads) == answer_problem(follows) == ""


async def test_distance_and_rate_are_seen() -> None:
    rate, delay_s = 2e6, 0.02
    async with ends(path=Path(delay_s=delay_s, bytes_per_s=rate)) as (near, far):
        for timed in await both(near, far):
            # Timers of the proxy may be early by half a millisecond, each way.
            assert timed.round_trip_s >= 2 * delay_s - 0.002
            assert 0 < timed.out_bytes_per_s <= 1.1 * rate
            assert 0 < timed.in_bytes_per_s <= BYTES_PER_S_MAX


async def test_a_small_burst(monkeypatch: pytest.MonkeyPatch) -> None:
    # One that is as slow as this needs no second one.
    monkeypatch.setattr(module, "SLOW_S", 0.0)
    async with ends() as (near, far):
        leads, follows = await both(near, far, 2 * PART_BYTES)
        assert answer_problem(leads) == answer_problem(follows) == ""


class Side:
    """A side that is driven by hand, and answers hails unless told otherwise."""

    def __init__(self, link: TimingLink, answers: Callable[[Hail], int | None]) -> None:
        self.link = link
        self.answers = answers
        self.messages: list[TimingMessage] = []
        self.turn = asyncio.Event()
        link.start(self)

    def on_message(self, message: TimingMessage) -> None:
        self.messages.append(message)
        if isinstance(message, Hail) and (number := self.answers(message)) is not None:
            self.link.send(HailBack(number))
        if isinstance(message, YourTurn):
            self.turn.set()

    def on_closed(self, reason: LinkFault | None) -> None:
        pass


def honest(hail: Hail) -> int | None:
    return None if hail.left else hail.number


async def test_what_is_sent_is_bounded() -> None:
    async with ends() as (near, far):
        side = Side(far, honest)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(_failing(WayTimer(near, BURST_BYTES_MAX)))
            await side.turn.wait()
            hails = [m for m in side.messages if isinstance(m, Hail)]
            assert sum(len(hail.padding) for hail in hails) == 2 * BURST_BYTES_MAX
            assert len({hail.number for hail in hails}) == len(hails)
            side.link.send(YourTurn())
        assert "nothing that could be timed" in running.result()


async def test_an_answer_before_its_hail_is_none() -> None:
    """Who answers what has not arrived yet has to guess; the honest answer comes after."""
    async with ends() as (near, far):

        def guessing(hail: Hail) -> int | None:
            if hail.left:
                far.send(HailBack(hail.number))
            return honest(hail)

        side = Side(far, guessing)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(_failing(WayTimer(near, BURST_BYTES_MAX)))
            await side.turn.wait()
            far.close(LinkFault("seen enough"))
        assert "seen enough" in running.result()


async def _failing(timer: WayTimer) -> str:
    with pytest.raises(LinkFault) as caught:
        await timer.run(leads=True)
    return caught.value.problem


PART = bytes(PART_BYTES)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ([Hail(1)] * 65, "more is sent than a way is timed with"),
        (
            [Hail(1, left, PART) for left in (*range(15, -1, -1),) * 3],
            "more is sent than a way is timed with",
        ),
        ([Hail(1, 3, PART), Hail(1, 1, PART)], "a burst with a gap"),
        ([Hail(1, 3, PART), Hail(1, 3, PART)], "a burst with a gap"),
        ([Hail(1, 1), Hail(1, 0)], "a burst of nothing"),
        ([YourTurn(), YourTurn()], "a turn that is over"),
        ([Parting("I go")], "I go"),
    ],
)
async def test_who_keeps_to_no_rules_is_left(said: list[TimingMessage], problem: str) -> None:
    async with ends() as (near, far):
        side = Side(far, honest)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(_failing(WayTimer(near, BURST_BYTES_MAX)))
            for message in said:
                side.link.send(message)
        assert problem in running.result()


async def test_a_link_that_is_gone_before_the_first_word() -> None:
    async with ends() as (near, far):
        timer = WayTimer(near, BURST_BYTES_MAX)
        Side(far, honest).link.close()
        await near.wait_closed()
        await asyncio.sleep(0)
        assert "closed the link" in await _failing(timer)
