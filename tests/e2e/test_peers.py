"""Nodes near each other and far from the gateway are measured, and planned with, as near."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path as FilePath

import pytest
from bench.slow_net import LOOPBACK, Path, slow_tcp
from tests.support.children import new_children
from tests.support.rings import Ring, open_ring, start_node, wait_until

from atoll.domain.address import HostPort
from atoll.domain.measure import WindowTime
from atoll.gateway.options import RingOptions
from atoll.members.register import REGISTER_FILE, Register
from atoll.net.ticket import Ticket
from atoll.plan.fleet import Fleet, Gateway, Machine
from atoll.plan.links import GATEWAY, LinkTable
from atoll.store.layout import FoundModel, Store

pytestmark = [
    pytest.mark.engine,
    pytest.mark.network,
    pytest.mark.usefixtures("own_children"),
]
FAR_S = 0.025
OPTIONS = RingOptions(
    nodes=2, streams=2, context=256, rows_max=64, chunk_rows=64, spin=1000, plan="auto"
)


async def join_from_afar(ring: Ring, port: int, name: str, *arguments: str) -> None:
    """Start a node on a machine of its own that reaches the gateway at a distant port."""
    register = Register(ring.folder / "gateway" / REGISTER_FILE)
    invitation, secret = register.invite("friend", uses=1, lifetime_s=60)
    path = ring.folder / f"{name}.join"
    place = HostPort(LOOPBACK, port)
    Ticket(ring.gateway.key, (place,), secret, invitation.expires).write(path)
    home, log = ring.folder / name, ring.folder / f"{name}.log"
    named = ("--model", str(ring.model.path), "--link", "tls", *arguments)
    ring.nodes.append(await start_node(path, home, log, *named, store=ring.store, machine=name))


def table(ring: Ring, names: list[str]) -> LinkTable:
    """The links that a plan of these nodes goes by."""
    links = ring.gateway.conductor._fleet.measuring.distances.links()
    times = (WindowTime(1, 0.001),)
    machines = tuple(Machine(name, 1, times, host=name) for name in names)
    return LinkTable(Fleet(Gateway(times), machines, links))


@pytest.mark.long
async def test_two_that_are_near_each_other(small: FoundModel, tmp_path: FilePath) -> None:
    store = Store(tmp_path / "store")
    async with (
        AsyncExitStack() as proxies,
        open_ring(small, store, tmp_path, OPTIONS, join=False) as ring,
    ):
        peers = ring.gateway.conductor._fleet.measuring.distances.peers
        link_port = ring.gateway.addresses[0].port
        far = await proxies.enter_async_context(slow_tcp(link_port, Path(delay_s=FAR_S)))
        for name in ("node-1", "node-2"):
            await join_from_afar(ring, far, name)
        await ring.wait_ready()
        await wait_until(lambda: len(peers.links()) == 2, timeout_s=30, what="the way")
        assert peers.problems() == {}
        links = table(ring, ["node-1", "node-2"])
        to_gateway_s = links.link(1, GATEWAY).latency_s
        assert to_gateway_s > 0.9 * FAR_S
        for ends in ((1, 2), (2, 1)):
            assert 0 < links.link(*ends).latency_s < to_gateway_s / 2
        tokens = await ring.tokens((3, 4, 5), 8)

        # A newcomer, beside the ring that serves.
        await join_from_afar(ring, far, "node-3")
        await wait_until(lambda: len(peers.links()) == 6, timeout_s=30, what="the ways of node-3")
        links = table(ring, ["node-1", "node-2", "node-3"])
        assert links.link(1, 3).latency_s < to_gateway_s / 2
        assert await ring.tokens((3, 4, 5), 8) == tokens
    assert new_children() == []
