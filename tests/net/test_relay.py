from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path as File
from typing import Any

import pytest
from bench.slow_net import Path, slow_tcp

from atoll.domain.address import Address
from atoll.domain.errors import AtollError, LinkFault, ProtocolFault
from atoll.domain.ids import Epoch, NodeId, SessionId, Slot
from atoll.domain.wire import Window
from atoll.net import relay as relays
from atoll.net.blake3 import derive_key
from atoll.net.identity import Identity
from atoll.net.iroh_endpoint import open_endpoint
from atoll.net.link import DataLimits, LinkSettings, UnusableFrame
from atoll.net.listener import Takers
from atoll.net.relay import Guests, Relay, bearer, open_relay, proved_key
from atoll.net.websocket import Request

pytestmark = pytest.mark.network
LOOPBACK = "127.0.0.1"
ONE, TWO, STRANGER = Identity.generate(), Identity.generate(), Identity.generate()
UPGRADE = (
    b"GET /relay HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: iroh-relay-v2, iroh-relay-v1\r\n\r\n"
)


def is_member(node: NodeId) -> bool:
    return node in {ONE.node_id, TWO.node_id}


@asynccontextmanager
async def a_relay() -> AsyncIterator[Relay]:
    async with open_relay(LOOPBACK, 0, is_member=is_member) as relay:
        yield relay


@dataclass
class Club:
    """Members and invitations that change; ONE is the host."""

    members: set[NodeId] = field(default_factory=lambda: {ONE.node_id, TWO.node_id})
    open: dict[str, int] = field(default_factory=lambda: {"good": 1})
    broken: bool = False

    def is_member(self, node: NodeId) -> bool:
        if self.broken:
            raise AtollError("the register cannot be read")
        return node in self.members

    def places(self, token: str) -> int:
        return self.open.get(token, 0)


@asynccontextmanager
async def a_relay_with_guests(club: Club) -> AsyncIterator[Relay]:
    guests = Guests(ONE.node_id, club.places)
    async with open_relay(LOOPBACK, 0, is_member=club.is_member, guests=guests) as relay:
        yield relay


class Client:
    """A client of the relay, by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, relay: Relay, token: str = "") -> Client:
        client = cls(*await asyncio.open_connection(LOOPBACK, relay.port))
        shown = f"Authorization: Bearer {token}\r\n\r\n".encode() if token else b"\r\n"
        client.writer.write(UPGRADE[:-2] + shown)
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101")
        # The example of RFC 6455, section 1.3.
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
        return client

    @classmethod
    async def enter(cls, relay: Relay, identity: Identity, token: str = "") -> Client:
        client = await cls.connect(relay, token)
        kind, challenge = await client.frame()
        assert kind == relays.CHALLENGE
        client.send(relays.AUTH, proof(identity, challenge))
        return client

    @classmethod
    async def enter_well(cls, relay: Relay, identity: Identity, token: str = "") -> Client:
        client = await cls.enter(relay, identity, token)
        assert await client.frame() == (relays.CONFIRM, b"")
        return client

    def send(self, kind: int, content: bytes, opcode: int = 2) -> None:
        data = bytes([kind]) + content
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
        size = struct.pack(">BBQ", 0x80 | opcode, 0xFF, len(data))
        self.writer.write(size + mask + masked)

    async def frame(self) -> tuple[int, bytes]:
        head = await self.reader.readexactly(2)
        length = head[1]
        if length == 126:
            (length,) = struct.unpack(">H", await self.reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", await self.reader.readexactly(8))
        data = await self.reader.readexactly(length)
        return data[0], data[1:]

    async def wait_end(self) -> None:
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            return
        finally:
            self.writer.close()


def proof(identity: Identity, challenge: bytes) -> bytes:
    message = derive_key(b"iroh-relay handshake v1 challenge signature", challenge)
    return bytes.fromhex(identity.node_id) + b"\x40" + identity.sign(message)


def packets(to: Identity, content: bytes) -> bytes:
    return bytes.fromhex(to.node_id) + b"\x00" + content


async def test_members_send_each_other_packets_and_hear_who_left() -> None:
    async with asyncio.timeout(10), a_relay() as relay:
        one, two = await Client.enter(relay, ONE), await Client.enter(relay, TWO)
        for client in (one, two):
            assert await client.frame() == (relays.CONFIRM, b"")
        assert relay.members == {ONE.node_id, TWO.node_id}
        for size in (1, 60, 300, 65_000):
            content = os.urandom(size)
            one.send(relays.TO_RELAY, packets(TWO, content))
            assert await two.frame() == (relays.FROM_RELAY, packets(ONE, content))
        two.send(relays.TO_RELAY_MANY, packets(ONE, b"\x00\x02abab"))
        assert await one.frame() == (relays.FROM_RELAY_MANY, packets(TWO, b"\x00\x02abab"))
        one.send(relays.TO_RELAY, packets(STRANGER, b"to nobody"))
        one.send(relays.PING, b"12345678")
        assert await one.frame() == (relays.PONG, b"12345678")
        two.send(0, b"", opcode=8)
        assert await one.frame() == (relays.GONE, bytes.fromhex(TWO.node_id))
        assert relay.members == {ONE.node_id}
        await two.wait_end()
        one.writer.close()


async def test_who_is_no_member_hears_so() -> None:
    async with asyncio.timeout(10), a_relay() as relay:
        client = await Client.enter(relay, STRANGER)
        kind, problem = await client.frame()
        assert kind == relays.DENY
        assert problem[0] == len(problem) - 1
        assert b"is no member" in problem
        await client.wait_end()
        assert not relay.members


async def test_a_key_comes_in_once_and_the_newer_stays() -> None:
    async with asyncio.timeout(10), a_relay() as relay:
        first = await Client.enter(relay, ONE)
        assert await first.frame() == (relays.CONFIRM, b"")
        second = await Client.enter(relay, ONE)
        assert await second.frame() == (relays.CONFIRM, b"")
        assert await first.frame() == (relays.STATUS, b"\x01")
        await first.wait_end()
        second.send(relays.PING, b"12345678")
        assert await second.frame() == (relays.PONG, b"12345678")
        assert relay.members == {ONE.node_id}
        second.writer.close()


async def test_a_guest_talks_with_the_host_alone() -> None:
    async with asyncio.timeout(10), a_relay_with_guests(Club()) as relay:
        host, two = await Client.enter_well(relay, ONE), await Client.enter_well(relay, TWO)
        guest = await Client.enter_well(relay, STRANGER, "good")
        assert relay.guests == {STRANGER.node_id}
        guest.send(relays.TO_RELAY, packets(TWO, b"past the host"))
        two.send(relays.TO_RELAY, packets(STRANGER, b"to the guest"))
        guest.send(relays.TO_RELAY, packets(ONE, b"knock"))
        assert await host.frame() == (relays.FROM_RELAY, packets(STRANGER, b"knock"))
        host.send(relays.TO_RELAY, packets(STRANGER, b"come"))
        assert await guest.frame() == (relays.FROM_RELAY, packets(ONE, b"come"))
        two.send(relays.PING, b"12345678")
        assert await two.frame() == (relays.PONG, b"12345678")
        for client in (host, two, guest):
            client.writer.close()


async def test_a_guest_who_was_let_in_is_a_member_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relays, "REVIEW_S", 60)
    monkeypatch.setattr(relays, "_LOOK_AGAIN_S", 0)
    club = Club()
    async with asyncio.timeout(10), a_relay_with_guests(club) as relay:
        two = await Client.enter_well(relay, TWO)
        guest = await Client.enter_well(relay, STRANGER, "good")
        club.members.add(STRANGER.node_id)
        club.open.clear()  # that used the invitation up
        guest.send(relays.TO_RELAY, packets(TWO, b"hello"))
        assert await two.frame() == (relays.FROM_RELAY, packets(STRANGER, b"hello"))
        relay.review()
        guest.send(relays.PING, b"12345678")
        assert await guest.frame() == (relays.PONG, b"12345678")
        assert not relay.guests
        for client in (two, guest):
            client.writer.close()


@pytest.mark.parametrize("token", ["forged", "x" * 4000, "good good", "\xff"])
async def test_a_token_that_is_not_good_lets_nobody_in(token: str) -> None:
    async with asyncio.timeout(10), a_relay_with_guests(Club()) as relay:
        client = await Client.enter(relay, STRANGER, token)
        kind, problem = await client.frame()
        assert kind == relays.DENY
        assert b"ticket is not good" in problem
        await client.wait_end()
        assert not relay.members


async def test_without_guests_no_token_is_good() -> None:
    async with asyncio.timeout(10), a_relay() as relay:
        client = await Client.enter(relay, STRANGER, "good")
        assert (await client.frame())[0] == relays.DENY
        await client.wait_end()


@pytest.mark.parametrize("who", ["guest", "member"])
async def test_who_may_be_there_no_more_is_shown_out(
    who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "REVIEW_S", 0.05)
    club = Club()
    async with asyncio.timeout(10), a_relay_with_guests(club) as relay:
        host = await Client.enter_well(relay, ONE)
        gone = (
            await Client.enter_well(relay, STRANGER, "good")
            if who == "guest"
            else await Client.enter_well(relay, TWO)
        )
        club.open.clear()  # withdrawn, or expired
        club.members.discard(TWO.node_id)  # revoked
        await gone.wait_end()
        host.send(relays.PING, b"12345678")
        assert await host.frame() == (relays.PONG, b"12345678")
        assert relay.members == {ONE.node_id}
        host.writer.close()


async def test_guests_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relays, "GUESTS_MAX", 2)
    monkeypatch.setattr(relays, "GUEST_BYTES_MAX", 1000)
    club = Club(open={"good": 1, "other": 5})
    async with asyncio.timeout(10), a_relay_with_guests(club) as relay:
        first = await Client.enter_well(relay, STRANGER, "good")
        # For one machine: the newer connection counts.
        second = await Client.enter_well(relay, Identity.generate(), "good")
        await first.wait_end()
        third = await Client.enter_well(relay, Identity.generate(), "other")
        fourth = await Client.enter(relay, Identity.generate(), "other")
        kind, problem = await fourth.frame()
        assert (kind, problem[1:]) == (relays.DENY, b"too many guests are here")
        await fourth.wait_end()
        for _ in range(3):
            third.send(relays.TO_RELAY, packets(ONE, bytes(400)))
        await third.wait_end()
        assert len(relay.guests) == 1
        second.writer.close()


async def test_strangers_leave_room_for_members(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relays, "STRANGERS_MAX", 2)
    async with asyncio.timeout(10), a_relay() as relay:
        one = await Client.enter_well(relay, ONE)
        waiting = [await Client.connect(relay) for _ in range(2)]
        reader, _ = late = await asyncio.open_connection(LOOPBACK, relay.port)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        for client in (*waiting, one, Client(*late)):
            client.writer.close()


async def test_while_the_register_is_broken_nobody_comes_in_and_nobody_goes() -> None:
    club = Club()
    async with asyncio.timeout(10), a_relay_with_guests(club) as relay:
        one = await Client.enter_well(relay, ONE)
        guest = await Client.enter_well(relay, STRANGER, "good")
        club.broken = True
        refused = await Client.enter(relay, TWO)
        await refused.wait_end()
        guest.send(relays.TO_RELAY, packets(TWO, b"lost"))
        relay.review()
        guest.send(relays.TO_RELAY, packets(ONE, b"knock"))
        assert await one.frame() == (relays.FROM_RELAY, packets(STRANGER, b"knock"))
        for client in (one, guest):
            client.writer.close()


def test_a_proof_is_for_one_challenge_and_one_key() -> None:
    challenge = os.urandom(16)
    good = proof(ONE, challenge)
    assert proved_key(good, challenge) == ONE.node_id
    for wrong in (good[:-1], good + b"x", b"", good[:32] + b"\x41" + good[33:]):
        with pytest.raises(ProtocolFault, match="another form"):
            proved_key(wrong, challenge)
    with pytest.raises(ProtocolFault, match="does not match"):
        proved_key(good, os.urandom(16))
    with pytest.raises(ProtocolFault, match="does not match"):
        proved_key(bytes.fromhex(TWO.node_id) + good[32:], challenge)


@pytest.mark.parametrize(
    "words",
    [
        b"\x16\x03\x01" + bytes(100) + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /relay HTTP/1.1\r\n\r\n",
        b"x" * 20_000,
        UPGRADE.replace(b"iroh-relay-v2", b"iroh-relay-v9"),
        UPGRADE + b"\x82\x05hello",
        UPGRADE + b"\x02\x85\x00\x00\x00\x00hello",
        UPGRADE + b"\x82\xff" + b"\xff" * 8,
        UPGRADE + b"\x82\x85\x00\x00\x00\x00\x04ello",
        UPGRADE + b"\x82\x85\x00\x00\x00\x00\x01ello",
    ],
    ids=["tls", "root", "plain", "long", "version", "bare", "part", "huge", "kind", "proof"],
)
async def test_whoever_breaks_the_exchange_is_out_and_others_stay(words: bytes) -> None:
    async with asyncio.timeout(10), a_relay() as relay:
        member = await Client.enter(relay, ONE)
        assert await member.frame() == (relays.CONFIRM, b"")
        reader, writer = await asyncio.open_connection(LOOPBACK, relay.port)
        writer.write(words)
        await Client(reader, writer).wait_end()
        member.send(relays.PING, b"12345678")
        assert await member.frame() == (relays.PONG, b"12345678")
        member.writer.close()


async def test_probes_are_answered() -> None:
    async with asyncio.timeout(10), a_relay() as relay:
        reader, writer = await asyncio.open_connection(LOOPBACK, relay.port)
        writer.write(b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 204")
        writer.close()


async def test_the_slow_are_cut_off_and_numbers_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relays, "PROVE_S", 0.3)
    monkeypatch.setattr(relays, "CLIENTS_MAX", 3)
    async with asyncio.timeout(10), a_relay() as relay:
        waiting = [await asyncio.open_connection(LOOPBACK, relay.port) for _ in range(5)]
        for reader, writer in waiting:
            await Client(reader, writer).wait_end()
        client = await Client.enter(relay, ONE)
        assert await client.frame() == (relays.CONFIRM, b"")
        client.writer.close()


async def test_who_takes_nothing_loses_packets_and_holds_up_nobody() -> None:
    async with asyncio.timeout(20), a_relay() as relay:
        one, two = await Client.enter(relay, ONE), await Client.enter(relay, TWO)
        for client in (one, two):
            assert await client.frame() == (relays.CONFIRM, b"")
        two.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(400):
            one.send(relays.TO_RELAY, packets(TWO, bytes(60_000)))
            await one.writer.drain()
        one.send(relays.PING, b"12345678")
        assert await one.frame() == (relays.PONG, b"12345678")
        assert relay._members[TWO.node_id].lost > 0
        for client in (one, two):
            client.writer.transport.abort()


async def test_taken_port_is_told() -> None:
    async with asyncio.timeout(10), a_relay() as relay:
        with pytest.raises(LinkFault, match="cannot open a relay"):
            async with open_relay(LOOPBACK, relay.port, is_member=is_member):
                pass


def namespaces() -> bool:
    words = "from bench.slow_net import leave_network; leave_network()"
    command = [sys.executable, "-c", words]
    return (
        sys.platform == "linux"
        and subprocess.run(command, check=False, capture_output=True).returncode == 0
    )


class Heard:
    def __init__(self) -> None:
        self.frames: asyncio.Queue[Any] = asyncio.Queue()

    def on_frame(self, message: Any, payload: bytes) -> None:
        self.frames.put_nowait((message, payload))

    def on_unusable(self, fault: UnusableFrame) -> None:
        raise fault

    def on_batch_end(self) -> None:
        pass

    def on_closed(self, reason: LinkFault | None) -> None:
        pass


@asynccontextmanager
async def hidden_peer(relay: Relay, expected: NodeId, seed: bytes) -> AsyncIterator[None]:
    """A peer in a network of its own, in which the relay's port alone leads out."""
    ours, theirs = socket.socketpair()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(File(__file__).with_name("hidden_peer.py")),
        stdin=asyncio.subprocess.PIPE,
        pass_fds=[theirs.fileno()],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(File.cwd()), *sys.path])),
        },
    )
    try:
        assert process.stdin is not None
        told = {"port": relay.port, "expected": expected, "seed": seed.hex()}
        process.stdin.write(json.dumps({**told, "channel": theirs.fileno()}).encode() + b"\n")
        with ours, theirs:
            _, fds, _, _ = await asyncio.to_thread(socket.recv_fds, ours, 1, 1)
        async with slow_tcp(relay.port, Path(), front=socket.socket(fileno=fds[0])):
            yield
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.skipif(not namespaces(), reason="no network namespaces here")
async def test_two_that_cannot_reach_each_other_meet_at_the_relay() -> None:
    pytest.importorskip("iroh", reason="no wheel for this system")
    server, client = Identity.generate(), Identity.generate()
    members = {server.node_id, client.node_id}
    taken: asyncio.Queue[Any] = asyncio.Queue()
    async with (
        asyncio.timeout(60),
        open_relay(LOOPBACK, 0, is_member=members.__contains__) as relay,
        open_endpoint(
            server, host=LOOPBACK, relays=[f"http://{LOOPBACK}:{relay.port}/"]
        ) as endpoint,
    ):
        await endpoint.wait_relayed()
        with endpoint.taking(Takers(lambda *_: None, on_data=taken.put_nowait)):
            seed = client.private_key.private_bytes_raw()
            async with hidden_peer(relay, server.node_id, seed):
                link = await taken.get()
                assert link.peer == client.node_id
                assert link.peer_host == ""
                heard = Heard()
                link.start(heard, DataLimits(n_embd=4096, rows_max=64))
                window = Window(
                    SessionId(7), Slot(1), Epoch(1, 1), 0, keep=0, rows=64, encoding="f32"
                )
                payload = os.urandom(64 * 4096 * 4)
                assert link.send(window, payload)
                assert await heard.frames.get() == (window, payload)
                assert all(path.is_relay for path in link._transport._connection.paths())
                assert relay.relayed_bytes > 2 * len(payload)
                link.close()
                await link.wait_closed()


async def test_endpoint_that_is_no_member_never_gets_in(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("iroh", reason="no wheel for this system")
    caplog.set_level("INFO")
    async with asyncio.timeout(20), a_relay() as relay:
        url = f"http://{LOOPBACK}:{relay.port}/"
        async with (
            open_endpoint(STRANGER, host=LOOPBACK, relays=[url]) as stranger,
        ):
            while "is no member" not in caplog.text:
                await asyncio.sleep(0.05)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await stranger.wait_relayed()
            assert not relay.members
            with pytest.raises(LinkFault):
                await stranger.dial_data(
                    Address(relay=url),
                    expected=ONE.node_id,
                    settings=LinkSettings(handshake_s=0.5),
                )


@pytest.mark.parametrize(
    ("field_text", "token"),
    [("Bearer abc", "abc"), ("bearer  abc ", "abc"), ("Basic abc", ""), ("abc", ""), ("", "")],
)
def test_a_token_stands_behind_its_scheme(field_text: str, token: str) -> None:
    fields = {"authorization": field_text} if field_text else {}
    assert bearer(Request("GET", "/relay", fields)) == token


async def test_endpoint_comes_in_as_a_guest_with_its_token() -> None:
    pytest.importorskip("iroh", reason="no wheel for this system")
    club = Club()
    async with asyncio.timeout(20), a_relay_with_guests(club) as relay:
        url = f"http://{LOOPBACK}:{relay.port}/"
        async with open_endpoint(STRANGER, host=LOOPBACK, relays=[url], relay_token="good") as one:
            await one.wait_relayed()
            assert relay.guests == {STRANGER.node_id}
