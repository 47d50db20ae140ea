"""Gateways that announce themselves, over real multicast on loopback."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zeroconf import IPVersion, ServiceInfo
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from atoll.domain.address import HostPort
from atoll.domain.errors import LinkFault
from atoll.domain.ids import NodeId
from atoll.net.discovery import (
    FOUND_MAX,
    NAME_CHARS_MAX,
    Announcement,
    FoundGateway,
    NoGateway,
    announced,
    choose,
    look_for_gateways,
    merged,
    read_announcement,
)

# Each takes a second for the network's sake: on the loop that the product runs on.
on_one_loop = pytest.mark.asyncio(loop_factories=["uvloop"])

LOOPBACK = "127.0.0.1"
KEY, OTHER = NodeId("ab" * 32), NodeId("cd" * 32)
MULTICAST = ("224.0.0.251", 5353)


@pytest.fixture
def service() -> str:
    """A kind of service of this test alone."""
    return f"_at-{secrets.token_hex(4)}._tcp.local."


def an_announcement(key: NodeId = KEY, name: str = "kitchen", **changes: Any) -> Announcement:
    fields: dict[str, Any] = {
        "hosts": (LOOPBACK,),
        "port": 8643,
        "udp_port": 8644,
        "version": "0.1",
    }
    return Announcement(name, key, **(fields | changes))


def a_key(number: int) -> NodeId:
    return NodeId(f"{number:064x}")


def a_pointer(service: str, label: str) -> bytes:
    """A packet by which somebody offers a service called `label` (RFC 1035, section 4)."""

    def name(*labels: str) -> bytes:
        return b"".join(bytes([len(part)]) + part.encode() for part in labels) + b"\0"

    kind = service.rstrip(".").split(".")
    header, target = bytes.fromhex("0000 8400 0000 0001 0000 0000"), name(label, *kind)
    fields = struct.pack(">HHIH", 12, 1, 120, len(target))
    return header + name(*kind) + fields + target


async def look(service: str, look_s: float = 2.0) -> tuple[FoundGateway, ...]:
    """Look for longer than it takes to ask twice, the second time a second after the first.

    The answer to the first question comes to one address and port, which all who
    announce or look on this machine share: the system may hand it to another of them.
    To the second all are answered.
    """
    return await look_for_gateways(host=LOOPBACK, look_s=look_s, service=service)


@asynccontextmanager
async def stranger(service: str, *announcements: dict[str, Any]) -> AsyncIterator[None]:
    """Somebody who announces what he likes."""
    zeroconf = AsyncZeroconf(interfaces=[LOOPBACK], ip_version=IPVersion.V4Only)
    try:
        for number, fields in enumerate(announcements):
            label = fields.pop("label", f"stranger {number}")
            defaults: dict[str, Any] = {
                "addresses": [b"\x7f\0\0\1"],
                "port": 1,
                "server": f"s{number}.local.",
            }
            info = ServiceInfo(service, f"{label}.{service}", **(defaults | fields))
            await zeroconf.async_register_service(info, cooperating_responders=True, strict=False)
        yield
    finally:
        await zeroconf.async_close()


@pytest.mark.alone
@pytest.mark.network
@on_one_loop
async def test_who_announces_itself_is_found_until_it_ends(service: str) -> None:
    async with announced(an_announcement(), host=LOOPBACK, service=service):
        [found] = await look(service)
    place = HostPort(LOOPBACK, 8643)
    assert found == FoundGateway("kitchen", KEY, (place,), 8644, "0.1")
    assert found.short_key == "ab" * 6
    assert await look(service, 0.3) == ()


@pytest.mark.alone
@pytest.mark.network
@on_one_loop
async def test_two_of_one_name_are_told_apart_by_their_keys(service: str) -> None:
    async with AsyncExitStack() as stack, asyncio.timeout(10):
        pair = [announced(an_announcement(k), host=LOOPBACK, service=service) for k in (KEY, OTHER)]
        await asyncio.gather(*(stack.enter_async_context(each) for each in pair))
        found = await look(service)
    assert [g.key for g in found] == [KEY, OTHER]
    with pytest.raises(NoGateway, match="2 gateways called 'kitchen' announce themselves") as two:
        choose(found, "kitchen")
    assert f"kitchen (key {KEY[:12]}, at {LOOPBACK})" in two.value.problem
    assert "--gateway KEY" in two.value.hint
    assert choose(found, "cd").key == OTHER


@pytest.mark.alone
@pytest.mark.network
@on_one_loop
async def test_a_host_may_be_called_anything(service: str) -> None:
    names = ["a.b._tcp.local.", "ü" * 60, "\x1b[31m\n\0", "", "x" * 500]
    async with AsyncExitStack() as stack, asyncio.timeout(10):
        await asyncio.gather(
            *(
                stack.enter_async_context(
                    announced(an_announcement(a_key(n), name), host=LOOPBACK, service=service)
                )
                for n, name in enumerate(names)
            )
        )
        found = await look(service)
    called = {g.key: g.name for g in found}
    expected = ["a-b-_tcp-local-", "ü" * 20, "?[31m??", "atoll", "x" * 40]
    assert [called[a_key(n)] for n in range(len(names))] == expected


@pytest.mark.alone
@pytest.mark.network
@on_one_loop
async def test_rubbish_harms_nobody(service: str) -> None:
    good = {"key": KEY, "name": "kitchen", "udp": "9"}
    rubbish: list[dict[str, Any]] = [
        {"properties": good},
        {"properties": {}},
        {"properties": {"key": "AB" * 32}},
        {"properties": {"key": "ab" * 31}},
        {"properties": {"key": b"\xff" * 64}},
        {"properties": good, "port": 0},
        {"properties": good, "addresses": []},
        {"properties": b"\xff" * 300},
        {"properties": b"\x00=\x05key"},
        {"properties": {"key": OTHER, "name": "\x1b[2J\n" + "x" * 200, "udp": "99999"}},
        {"properties": {"key": NodeId("ef" * 32), "name": b"\xff\xfe", "udp": "²"}},
    ]
    pointer = a_pointer(service, "kitchen \x07\x1b[2J")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(LOOPBACK))
        async with stranger(service, *rubbish), asyncio.TaskGroup() as tasks:
            looking = tasks.create_task(look(service))
            for packet in (
                b"",
                b"\0" * 12,
                b"\xff" * 512,
                bytes(range(256)),
                b"\x84" * 9000,
                pointer,
            ):
                sock.sendto(packet, MULTICAST)
        found = looking.result()
    by_key = {g.key: g for g in found}
    assert set(by_key) == {KEY, OTHER, NodeId("ef" * 32)}
    assert by_key[OTHER].name == ("?[2J?" + "x" * 200)[:NAME_CHARS_MAX]
    assert by_key[OTHER].udp_port == 0
    assert all(g.name.isprintable() for g in found)


@pytest.mark.alone
@pytest.mark.network
@on_one_loop
async def test_no_flood_of_announcements_is_followed(service: str) -> None:
    flood = [{"properties": {"key": a_key(n), "name": "x"}} for n in range(FOUND_MAX + 8)]
    async with stranger(service, *flood):
        found = await look(service, 2.0)
    assert 1 <= len(found) <= FOUND_MAX


@pytest.mark.alone
@pytest.mark.network
@on_one_loop
@pytest.mark.parametrize("host", ["203.0.113.77", "nonsense", "::1"])
async def test_an_interface_that_is_not_here(service: str, host: str) -> None:
    with pytest.raises(LinkFault, match="multicast DNS") as fault:
        await look_for_gateways(host=host, look_s=0.1, service=service)
    assert "ticket" in fault.value.hint
    with pytest.raises(LinkFault, match="multicast DNS"):
        async with announced(an_announcement(), host=host, service=service):
            pass


TEXTS = st.dictionaries(
    st.sampled_from((b"key", b"name", b"udp", b"version", b"txtvers", b"KEY", b"\xff")),
    st.none()
    | st.binary(max_size=255)
    | st.sampled_from((KEY.encode(), b"1", b"70000", b"-1", b"\xd9\xa3", b"1_0")),
)


@given(TEXTS, st.integers(0, 65535), st.lists(st.integers(0, 2**32 - 1), max_size=40))
def test_whatever_an_announcement_says(
    texts: dict[bytes, bytes | None], port: int, numbers: list[int]
) -> None:
    info = AsyncServiceInfo(
        "_x._tcp.local.",
        "y._x._tcp.local.",
        addresses=[ipaddress.ip_address(number).packed for number in numbers],
        port=port,
        properties=texts,
    )
    found = read_announcement(info)
    if found is not None:
        assert found.key == KEY
        assert 1 <= len(found.places) <= 16
        assert 0 <= found.udp_port <= 65535
        assert found.name.isprintable()
        assert found.version.isprintable()


def a_gateway(name: str, key: str, host: str = "10.0.0.1") -> FoundGateway:
    return FoundGateway(name, NodeId(key * 32), (HostPort(host, 1),))


def test_one_key_is_one_gateway_whoever_announces_it() -> None:
    places = merged([a_gateway("b", "ab"), a_gateway("c", "ab", "10.0.0.2"), a_gateway("a", "cd")])
    assert [(g.name, g.key[:2], len(g.places)) for g in places] == [("a", "cd", 1), ("b", "ab", 2)]
    many = [a_gateway("b", "ab", f"10.0.0.{n}") for n in range(40)]
    assert len(merged(many)[0].places) == 16


def test_the_only_one_is_meant() -> None:
    kitchen, attic = a_gateway("kitchen", "ab"), a_gateway("attic", "cd")
    assert choose((kitchen,), "") == kitchen
    assert choose((kitchen, attic), "attic") == attic
    assert choose((kitchen, attic), "abab") == kitchen


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        ("", "no gateway announces itself on this network"),
        ("cellar", "no gateway called 'cellar' announces itself on this network"),
        ("\x1b[2J", r"no gateway called '\?\[2J' announces"),
    ],
)
def test_none_is_found(wanted: str, problem: str) -> None:
    with pytest.raises(NoGateway, match=problem) as none:
        choose((), wanted)
    assert "atoll invite" in none.value.hint


def test_what_was_found_in_its_place_is_told() -> None:
    with pytest.raises(NoGateway, match=r"found: kitchen \(key abababababab, at 10.0.0.1\)"):
        choose((a_gateway("kitchen", "ab"),), "cellar")
