"""Who is let in, who is missed, and whose word counts."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.support.hand_gateway import Heard
from tests.support.hand_node import a_join
from tests.support.rings import wait_until

from atoll.domain.control import (
    ControlMessage,
    Leave,
    PlanNotice,
    Ready,
    Refusal,
    SessionFailed,
    StageFailed,
    StageReport,
    Welcome,
)
from atoll.domain.errors import AtollError
from atoll.domain.ids import Epoch, SessionId
from atoll.gateway import fleet as fleet_module
from atoll.gateway.fleet import Fleet
from atoll.net.identity import Identity
from atoll.net.join_file import JoinFile
from atoll.net.link import ControlLink
from atoll.net.listener import listen
from atoll.net.tls import dial_control

pytestmark = pytest.mark.network


@dataclass
class Peer:
    link: ControlLink
    heard: Heard


@dataclass
class Port:
    """A fleet that can be dialled."""

    fleet: Fleet
    folder: Path
    files: list[Path]
    stack: AsyncExitStack
    said: list[str]
    lost: list[AtollError] = field(default_factory=list)
    failed: list[SessionFailed] = field(default_factory=list)

    def file(self, place: int = 0) -> JoinFile:
        return JoinFile.load(self.files[place])

    async def dial(self, identity: Identity | None = None) -> Peer:
        host, port = self.fleet.address
        link = await dial_control(
            host, port, expected=self.gateway, identity=identity or Identity.generate()
        )
        heard = Heard()
        link.start(heard)
        self.stack.callback(link.close)
        return Peer(link, heard)

    gateway: Any = None

    async def ask(self, secret: str, identity: Identity | None = None, **changes: Any) -> Peer:
        peer = await self.dial(identity)
        peer.link.send(a_join(secret, 1234, **changes))
        return peer

    async def join(self, place: int = 0, **changes: Any) -> Peer:
        peer = await self.ask(self.file(place).secret, **changes)
        await peer.heard.next_message(Welcome)
        return peer


@asynccontextmanager
async def open_port(folder: Path, places: int = 2) -> AsyncIterator[Port]:
    said: list[str] = []
    fleet = Fleet(places, folder, tell=said.append)
    identity = Identity.generate()
    async with (
        AsyncExitStack() as stack,
        listen(
            "127.0.0.1",
            0,
            identity=identity,
            authorise=lambda _peer, _kind: None,
            on_control=fleet.on_control,
        ) as listener,
    ):
        files = fleet.open("127.0.0.1", listener.port, identity.node_id)
        port = Port(fleet, folder, files, stack, said)
        port.gateway = identity.node_id
        fleet.on_lost = port.lost.append
        fleet.on_session_failed = port.failed.append
        try:
            yield port
        finally:
            fleet.close()


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[Port]:
    async with open_port(tmp_path / "join") as opened:
        yield opened


async def refusal(peer: Peer) -> Refusal:
    """What it is told, after which its link ends."""
    told = await peer.heard.next_message(Refusal)
    await peer.heard.wait_ended()
    return told


async def test_join_files_are_for_their_owner_alone(port: Port) -> None:
    assert [path.name for path in port.files] == ["node-1.join", "node-2.join"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in port.files} == {0o600}
    assert port.file(0).secret != port.file(1).secret
    assert port.files[0].parent.stat().st_mode & 0o077 == 0


async def test_a_file_is_good_for_one_join(port: Port) -> None:
    used = port.file(0)
    await port.join(0)
    assert not port.files[0].exists()
    assert port.fleet.missing == 1
    told = await refusal(await port.ask(used.secret))
    assert "not valid" in told.problem
    assert "the join file that the gateway wrote last" in told.hint
    assert used.secret not in "".join(port.said)


@pytest.mark.parametrize("secret", ["", "x", "A" * 43, "ü" * 43])
async def test_a_forged_secret_is_refused(port: Port, secret: str) -> None:
    assert "not valid" in (await refusal(await port.ask(secret))).problem
    assert port.fleet.missing == 2
    await port.join(0)


@pytest.mark.parametrize(
    ("changes", "problem", "hint"),
    [
        ({"engine_build": "other-1"}, "its engine is other-1", "same version"),
        ({"engine_build": "llama.cpp-b11550"}, "the gateway's is llama.cpp-b11549", "that build"),
        ({"version": "99.0.0"}, "it runs Atoll 99.0.0", "same version"),
    ],
)
async def test_what_does_not_fit_is_refused_and_keeps_its_secret(
    port: Port, changes: dict[str, str], problem: str, hint: str
) -> None:
    secret = port.file(0).secret
    told = await refusal(await port.ask(secret, None, **changes))
    assert problem in told.problem
    assert hint in told.hint
    assert port.files[0].exists()
    await port.join(0)


async def test_a_key_joins_once(port: Port) -> None:
    identity = Identity.generate()
    first = await port.ask(port.file(0).secret, identity)
    await first.heard.next_message(Welcome)
    told = await refusal(await port.ask(port.file(1).secret, identity))
    assert "a node with this key is here already" in told.problem
    assert "a home of its own" in told.hint
    assert not first.link.is_closed
    assert port.fleet.missing == 1


async def test_a_full_ring_takes_nobody_more(tmp_path: Path) -> None:
    async with open_port(tmp_path / "join", places=1) as port:
        secret = port.file(0).secret
        await port.join(0)
        told = await refusal(await port.ask(secret))
        assert "all the nodes it was started for" in told.problem


async def test_names_are_told_apart(port: Port) -> None:
    first = await port.join(0, name="same")
    second = await port.join(1, name="same")
    assert port.fleet.members[0].name == "same"
    assert port.fleet.members[1].name.startswith("same-")
    assert first.link.peer == second.link.peer == port.gateway


@pytest.mark.parametrize(
    "message", [Ready(Epoch(1, 1), 1, 1, 1.0), Leave("x"), PlanNotice(b"", b""), Welcome("x")]
)
async def test_strangers_introduce_themselves_first(port: Port, message: ControlMessage) -> None:
    peer = await port.dial()
    peer.link.send(message)
    assert "introduce itself first" in (await refusal(peer)).problem


async def test_a_silent_stranger_is_sent_away(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "INTRODUCTION_S", 0.1)
    assert "no introduction came in time" in (await refusal(await port.dial())).problem


async def test_strangers_are_few(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "STRANGERS_MAX", 2)
    strangers = [await port.dial() for _ in range(2)]
    assert "too many wait" in (await refusal(await port.dial())).problem
    strangers[0].link.close()
    await strangers[0].link.wait_closed()
    await asyncio.sleep(0.05)
    await port.join(0)


@pytest.mark.parametrize("message", [Welcome("x"), PlanNotice(b"", b""), Refusal("x")])
async def test_members_may_not_say_everything(port: Port, message: ControlMessage) -> None:
    peer = await port.join(0)
    peer.link.send(message)
    assert f"may not send a {type(message).__name__}" in (await refusal(peer)).problem
    assert [str(error) for error in port.lost] == ["the node hand is gone"]


async def test_a_lost_place_gets_a_new_file(port: Port) -> None:
    old = port.file(0).secret
    peer = await port.join(0)
    changes = port.fleet.changes
    peer.link.close()
    await port.fleet.wait_change(changes)
    assert [error.problem for error in port.lost] == ["the node hand is gone"]
    assert stat.S_IMODE(port.files[0].stat().st_mode) == 0o600
    assert port.file(0).secret != old
    assert str(port.files[0]) in port.said[-1]
    assert "not valid" in (await refusal(await port.ask(old))).problem
    await port.join(0)


async def test_streams_end_even_if_no_file_can_be_written(port: Port) -> None:
    peer = await port.join(0)
    port.files[1].unlink()
    port.folder.rmdir()
    port.folder.write_text("in the way")
    peer.link.close()
    await wait_until(lambda: port.lost)
    await wait_until(lambda: "can be written" in port.said[-1])
    port.folder.unlink()


async def test_closing_says_goodbye_and_leaves_no_file(port: Port) -> None:
    member, stranger = await port.join(0), await port.dial()
    await asyncio.sleep(0.05)
    port.fleet.close()
    assert (await member.heard.next_message(Leave)).reason == "the gateway is shutting down"
    assert "shutting down" in (await refusal(stranger)).problem
    await member.heard.wait_ended()
    await asyncio.sleep(0.1)
    assert list(port.folder.iterdir()) == []
    assert port.lost == []


def a_report(epoch: Epoch) -> StageReport:
    return StageReport(epoch, 1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 1, 0)


async def test_only_words_about_the_current_epoch_count(tmp_path: Path) -> None:
    now, old = Epoch(1, 2), Epoch(1, 1)
    async with open_port(tmp_path / "join", places=1) as port:
        peer = await port.join(0)
        port.fleet.announce(PlanNotice(b"", b""), now)
        await peer.heard.next_message(PlanNotice)
        for message in (Ready(old, 1, 1, 1.0), a_report(old), StageFailed(old, "late")):
            peer.link.send(message)
        peer.link.send(SessionFailed(old, SessionId(1), 0, "x", "y"))
        await wait_until(lambda: port.failed)
        [member] = port.fleet.members
        assert (member.ready, member.report, port.lost) == (None, None, [])
        peer.link.send(Ready(now, 1, 1, 1.0))
        async with asyncio.timeout(5):
            await port.fleet.wait_ready(now)
        peer.link.send(a_report(now))
        peer.link.send(StageFailed(now, "the engine died"))
        await wait_until(lambda: port.lost)
        assert member.report is not None
        assert port.lost[0].problem == "the stage on hand failed: the engine died"
        # The next plan begins with nothing.
        port.fleet.announce(PlanNotice(b"", b""), Epoch(1, 3))
        again = port.fleet.members[0]
        assert again.ready is None
        assert again.report is None
