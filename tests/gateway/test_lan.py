"""Whether, where and how the gateway is announced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.rings import wait_until

from atoll import __version__
from atoll.domain.address import HostPort
from atoll.domain.ids import NodeId
from atoll.gateway import lan as lan_module
from atoll.gateway.lan import Lan, announcement, is_announced
from atoll.gateway.options import LanOptions, RingOptions, ServeOptions
from atoll.members.knocks import KNOCKS_FILE, Knocks, WaitingNode
from atoll.members.register import Register
from atoll.net.discovery import FoundGateway, look_for_gateways
from atoll.net.identity import Identity
from atoll.net.transport import open_transport

KEY = NodeId("ab" * 32)
LOOPBACK = "127.0.0.1"
OPTIONS = ServeOptions(RingOptions(nodes=1), Path("join"))


def options(link_host: str, **lan: object) -> ServeOptions:
    return replace(OPTIONS, link_host=link_host, lan=LanOptions(**lan))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (options("127.0.0.1"), False),
        (options("localhost"), False),
        (options("::1"), False),
        (options("0.0.0.0"), True),
        (options("192.0.2.7"), True),
        (options("0.0.0.0", announce=False), False),
        (options("127.0.0.1", host=LOOPBACK), True),
        (options("127.0.0.1", host=LOOPBACK, announce=False), False),
    ],
)
def test_only_who_listens_to_others_is_announced(chosen: ServeOptions, expected: bool) -> None:
    assert is_announced(chosen) is expected


def test_what_is_told() -> None:
    what, host = announcement(options("192.0.2.7", name="kitchen"), KEY, port=1, udp_port=2)
    assert (what.name, what.key, what.hosts, what.port) == ("kitchen", KEY, ("192.0.2.7",), 1)
    assert (what.udp_port, what.version, host) == (2, __version__, "192.0.2.7")


def test_all_interfaces_or_one(monkeypatch: pytest.MonkeyPatch) -> None:
    places = (HostPort("192.0.2.7", 1), HostPort("2001:db8::1", 1))
    monkeypatch.setattr(lan_module, "own_addresses", lambda _host, _port: places)
    what, host = announcement(options("0.0.0.0"), KEY, port=1, udp_port=0)
    assert (what.hosts, host) == (("192.0.2.7",), "")
    assert what.name
    what, host = announcement(options("0.0.0.0", host="192.0.2.9"), KEY, port=1, udp_port=0)
    assert (what.hosts, host) == (("192.0.2.9",), "192.0.2.9")


@asynccontextmanager
async def running(
    home: Path, chosen: ServeOptions, identity: Identity
) -> AsyncIterator[tuple[asyncio.Task[None], list[str]]]:
    said: list[str] = []
    register = Register(home / "register.json")
    lan = Lan(chosen, identity.node_id, register, home, tell=said.append)
    async with open_transport(identity, way="tls") as transport:
        task = asyncio.get_running_loop().create_task(lan.run(transport, 8643))
        try:
            yield task, said
        finally:
            task.cancel()
            await asyncio.wait([task])


async def look_for(key: NodeId) -> list[FoundGateway]:
    found = await look_for_gateways(host=LOOPBACK, look_s=1.0)
    return [gateway for gateway in found if gateway.key == key]


@pytest.mark.network
async def test_it_is_found_while_it_runs(tmp_path: Path) -> None:
    identity = Identity.generate()
    chosen = options(LOOPBACK, host=LOOPBACK, name="kitchen")
    async with running(tmp_path, chosen, identity) as (task, said):
        found: list[FoundGateway] = []
        for _ in range(5):
            found = found or await look_for(identity.node_id)
        assert [(g.name, g.places) for g in found] == [("kitchen", (HostPort(LOOPBACK, 8643),))]
        assert not task.done()
        assert said == []
    assert await look_for(identity.node_id) == []


@pytest.mark.network
async def test_an_interface_that_is_not_here_does_not_stop_the_gateway(tmp_path: Path) -> None:
    chosen = options(LOOPBACK, host="203.0.113.77")
    async with running(tmp_path, chosen, Identity.generate()) as (task, said):
        await wait_until(task.done)
        assert task.exception() is None
        [line] = said
        assert "this gateway is not announced" in line


async def test_a_machine_without_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lan_module, "own_addresses", lambda _host, _port: ())
    async with running(tmp_path, options("0.0.0.0"), Identity.generate()) as (task, said):
        await wait_until(task.done)
        assert ["atoll invite" in line for line in said] == [True]


async def test_without_an_announcement_a_list_left_behind_is_cleared(tmp_path: Path) -> None:
    knocks = Knocks(tmp_path / KNOCKS_FILE)
    knocks.publish((WaitingNode(KEY, "left", LOOPBACK, "123 456", 1),))
    async with running(tmp_path, options(LOOPBACK), Identity.generate()) as (task, _):
        await wait_until(task.done)
    assert knocks.waiting() == ()
