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

from atoll.domain.address import Address, HostPort
from atoll.domain.control import (
    ControlMessage,
    Fetching,
    Leave,
    NotPrefetched,
    PlanNotice,
    Prefetched,
    Prefetching,
    Ready,
    Refusal,
    SessionFailed,
    StageFailed,
    StageReport,
    Welcome,
)
from atoll.domain.errors import AtollError
from atoll.domain.ids import Epoch, SessionId
from atoll.domain.lent_memory import Borrower, Lent, MemoryGone, MemoryHere
from atoll.members import fleet as fleet_module
from atoll.members import strangers as strangers_module
from atoll.members.fleet import Fleet
from atoll.members.join_files import JoinFiles
from atoll.members.register import Invitation, Register
from atoll.net.identity import Identity
from atoll.net.link import ControlLink
from atoll.net.listener import Takers, listen
from atoll.net.ticket import Ticket
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
    register: Register
    address: HostPort
    folder: Path
    files: list[Path]
    stack: AsyncExitStack
    said: list[str]
    lost: list[AtollError] = field(default_factory=list)
    failed: list[SessionFailed] = field(default_factory=list)

    rearranged: int = 0

    def note_rearranged(self) -> None:
        self.rearranged += 1

    def file(self, place: int = 0) -> Ticket:
        return Ticket.load(self.files[place])

    async def dial(self, identity: Identity | None = None) -> Peer:
        link = await dial_control(
            self.address.host,
            self.address.port,
            expected=self.gateway,
            identity=identity or Identity.generate(),
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
async def open_port(folder: Path, places: int = 2, **options: Any) -> AsyncIterator[Port]:
    said: list[str] = []
    register = Register(folder.parent / "register.json")
    fleet = Fleet(places, register, tell=said.append, **options)
    identity = Identity.generate()
    async with (
        AsyncExitStack() as stack,
        listen(
            "127.0.0.1",
            0,
            identity=identity,
            takers=Takers(lambda _peer, _kind: None, on_control=fleet.on_control),
        ) as listener,
    ):
        address = HostPort("127.0.0.1", listener.port)

        def make_ticket(invitation: Invitation, secret: str) -> Ticket:
            return Ticket(identity.node_id, (address,), secret, invitation.expires)

        files = fleet.open(JoinFiles(folder, register, make_ticket))
        port = Port(fleet, register, address, folder, files, stack, said)
        port.gateway = identity.node_id
        fleet.on_lost = lambda _node, error: port.lost.append(error)
        fleet.on_rearranged = port.note_rearranged
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
    assert "its invitation is not known here" in told.problem
    assert "atoll invite" in told.hint
    assert told.final
    assert used.secret not in "".join(port.said)


@pytest.mark.parametrize("secret", ["", "x", "A" * 43, "ü" * 43])
async def test_a_forged_secret_is_refused(port: Port, secret: str) -> None:
    assert "not known here" in (await refusal(await port.ask(secret))).problem
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
    assert not told.final
    assert not first.link.is_closed
    assert port.fleet.missing == 1


async def test_who_comes_when_all_places_are_taken_is_a_spare(tmp_path: Path) -> None:
    async with open_port(tmp_path / "join", places=1) as port:
        first = await port.join(0)
        _, secret = port.register.invite("anna", lifetime_s=60)
        second = await port.ask(secret, name="second")
        await second.heard.next_message(Welcome)
        assert [m.name for m in port.fleet.spares] == ["second"]
        assert (port.fleet.spares[0].owner, port.fleet.missing) == ("anna", 0)
        first.link.close()
        await wait_until(lambda: [m.name for m in port.fleet.members] == ["second"])
        assert [error.problem for error in port.lost] == ["the node hand is gone"]
        async with asyncio.timeout(1):
            await port.fleet.wait_full()
        assert not port.files[0].exists()


async def test_a_spare_that_goes_disturbs_nobody(tmp_path: Path) -> None:
    async with open_port(tmp_path / "join", places=1) as port:
        await port.join(0)
        _, secret = port.register.invite("anna", lifetime_s=60)
        spare = await port.ask(secret, name="spare")
        await spare.heard.next_message(Welcome)
        spare.link.close()
        await wait_until(lambda: not port.fleet.spares)
        # Whether it had a part is for the conductor to know.
        assert [error.problem for error in port.lost] == ["the node spare is gone"]
        assert port.fleet.missing == 0
        assert not port.files[0].exists()


async def test_an_enrolled_node_comes_back_without_a_secret(port: Port) -> None:
    identity = Identity.generate()
    first = await port.ask(port.file(1).secret, identity)
    await first.heard.next_message(Welcome)
    assert port.fleet.members[0].place == 1
    first.link.close()
    await wait_until(lambda: port.fleet.missing == 2)
    again = await port.ask("", identity)
    await again.heard.next_message(Welcome)
    assert port.fleet.missing == 1


async def test_a_revoked_node_is_sent_away_and_stays_out(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module, "WATCH_S", 0.02)
    identity = Identity.generate()
    peer = await port.ask(port.file(0).secret, identity)
    await peer.heard.next_message(Welcome)
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(port.fleet.watch(), name="watch")
        port.register.revoke("hand")
        told = await refusal(peer)
        assert "this node was revoked" in told.problem
        assert told.final
        await wait_until(lambda: port.lost)
        watching.cancel()
    told = await refusal(await port.ask(port.file(0).secret, identity))
    assert "was revoked by the gateway's operator" in told.problem
    assert told.final
    assert port.files[0].exists()


async def test_a_node_rests_once_another_can_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module, "WATCH_S", 0.02)
    async with open_port(tmp_path / "join", places=1) as port, asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(port.fleet.watch(), name="watch")
        await port.join(0, name="tired")
        port.register.rest("tired", resting=True)
        await wait_until(lambda: "tired cannot rest before another node has joined" in port.said)
        assert (port.rearranged, port.fleet.missing) == (0, 0)
        _, secret = port.register.invite("anna", lifetime_s=60)
        await (await port.ask(secret, name="fresh")).heard.next_message(Welcome)
        await wait_until(lambda: port.rearranged)
        assert [m.name for m in port.fleet.members] == ["fresh"]
        assert [m.name for m in port.fleet.spares] == ["tired"]
        assert port.lost == []
        # Rested, it may step in again.
        port.register.rest("tired", resting=False)
        port.fleet.members[0].link.close()
        await wait_until(lambda: [m.name for m in port.fleet.members] == ["tired"])
        assert port.said.count("tired cannot rest before another node has joined") == 1
        watching.cancel()


async def test_too_little_memory_is_said_in_gib(tmp_path: Path) -> None:
    async with open_port(tmp_path / "join", memory_bytes=3 << 30) as port:
        told = await refusal(await port.ask(port.file(0).secret))
        assert "1.0 GiB of memory free, and 2.0 GiB more are needed" in told.problem
        assert "more nodes" in told.hint
        await port.join(0, memory_free_bytes=4 << 30)


async def test_a_node_that_leaves_for_good_is_forgotten(port: Port) -> None:
    identity = Identity.generate()
    peer = await port.ask(port.file(0).secret, identity)
    await peer.heard.next_message(Welcome)
    peer.link.close()
    await wait_until(lambda: port.fleet.missing == 2)
    parting = await port.dial(identity)
    parting.link.send(Leave("for good"))
    assert (await parting.heard.next_message(Leave)).reason == "forgotten"
    assert port.register.nodes() == ()
    assert "not known here" in (await refusal(await port.ask("", identity))).problem


async def test_names_are_told_apart(port: Port) -> None:
    first = await port.join(0, name="same")
    second = await port.join(1, name="same")
    assert port.fleet.members[0].name == "same"
    assert port.fleet.members[1].name.startswith("same-")
    assert first.link.peer == second.link.peer == port.gateway


@pytest.mark.parametrize(
    "message", [Ready(Epoch(1, 1), 1, 1, 1.0), PlanNotice(b"", b""), Welcome("x")]
)
async def test_strangers_introduce_themselves_first(port: Port, message: ControlMessage) -> None:
    peer = await port.dial()
    peer.link.send(message)
    assert "introduce itself first" in (await refusal(peer)).problem


async def test_a_silent_stranger_is_sent_away(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strangers_module, "INTRODUCTION_S", 0.1)
    assert "no introduction came in time" in (await refusal(await port.dial())).problem


async def test_strangers_are_few(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strangers_module, "STRANGERS_MAX", 2)
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
    assert port.said[-1] == f"it can come back by itself; to replace it: {port.files[0]}"
    assert "not known here" in (await refusal(await port.ask(old))).problem
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
        port.fleet.announce(PlanNotice(b"", b""), now, port.fleet.members)
        await peer.heard.next_message(PlanNotice)
        for message in (Ready(old, 1, 1, 1.0), a_report(old), StageFailed(old, "late")):
            peer.link.send(message)
        peer.link.send(SessionFailed(old, SessionId(1), 0, "x", "y"))
        await wait_until(lambda: port.failed)
        [member] = port.fleet.members
        assert (member.ready, member.report, port.lost) == (None, None, [])
        peer.link.send(Ready(now, 1, 1, 1.0))
        async with asyncio.timeout(5):
            await port.fleet.wait_ready(now, port.fleet.members)
        peer.link.send(a_report(now))
        peer.link.send(StageFailed(now, "the engine died"))
        await wait_until(lambda: port.lost)
        assert member.report is not None
        assert port.lost[0].problem == "the stage on hand failed: the engine died"
        # The next plan begins with nothing.
        port.fleet.announce(PlanNotice(b"", b""), Epoch(1, 3), port.fleet.members)
        again = port.fleet.members[0]
        assert again.ready is None
        assert again.report is None


async def test_a_shard_on_its_way_is_known(tmp_path: Path) -> None:
    now = Epoch(1, 2)
    async with open_port(tmp_path / "join", places=1) as port:
        peer = await port.join(0)
        moved: list[int] = []
        port.fleet.on_fetched = lambda: moved.append(1)
        port.fleet.announce(PlanNotice(b"", b""), now, port.fleet.members)
        [member] = port.fleet.members
        for here in (5, 5, 9):
            peer.link.send(Fetching(now, here, 10))
        await wait_until(lambda: member.fetching == Fetching(now, 9, 10))
        # Only progress counts, not that a node says something.
        assert len(moved) == 2
        peer.link.send(Fetching(Epoch(1, 1), 10, 10))
        peer.link.send(Ready(now, 1, 1, 1.0))
        async with asyncio.timeout(5):
            await port.fleet.wait_ready(now, port.fleet.members)
        assert member.fetching is None
        assert len(moved) == 2


async def test_what_a_node_says_of_a_shard_fetched_ahead_is_news(port: Port) -> None:
    peer = await port.join(0)
    [member] = port.fleet.members
    for said in (Prefetching(1, 2, 9), NotPrefetched(1, "no room"), Prefetched(2)):
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            news = tasks.create_task(port.fleet.wait_news())
            await asyncio.sleep(0)
            peer.link.send(said)
            await news
        assert member.prefetch == said


async def test_one_host_cannot_take_all_places_of_strangers(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strangers_module, "STRANGERS_PER_HOST_MAX", 1)
    await port.dial()
    assert "too many wait" in (await refusal(await port.dial())).problem


@pytest.mark.parametrize("host", ["..", "a..b", "\u00e9..b", "x" * 64, "a b", "[::1]"])
async def test_a_host_that_could_not_be_dialled_is_refused(port: Port, host: str) -> None:
    address = Address(tls=HostPort(host, 1))
    peer = await port.ask(port.file(0).secret, None, address=address)
    assert "a host of its address is no name or address" in (await refusal(peer)).problem
    assert port.fleet.missing == 2


async def test_a_nodes_words_reach_no_terminal_raw(port: Port) -> None:
    told = await refusal(
        await port.ask(port.file(0).secret, None, engine_build="\x1b[2J" + "x" * 200)
    )
    assert "\x1b" not in told.problem
    await port.join(0, name="a\nb")
    assert port.fleet.members[0].name == "a?b"


async def test_a_node_that_only_lends_memory_takes_no_place(port: Port) -> None:
    borrower = await port.join(0, borrows_memory=True)
    shelf = await port.join(1, lends_bytes=1 << 30, engine_build="", memory_free_bytes=0)
    # The join file that it came with was for a place: there is another.
    assert port.said[-2].endswith("joined, and lends 1.07 GB of memory")
    assert "that join file is used up; here is another" in port.said[-1]
    assert port.files[1].exists()
    assert (len(port.fleet.members), port.fleet.missing) == (1, 1)
    assert [len(some) for some in (port.fleet.everybody, port.fleet.spares)] == [1, 0]
    assert port.fleet.has(borrower.link.peer) is False
    here = await borrower.heard.next_message(MemoryHere)
    assert here.lent_bytes == 1 << 30
    await shelf.heard.next_message(Borrower)
    shelf.link.send(Lent(5, 1))
    [member] = port.fleet.memory.lenders
    await wait_until(lambda: member.lent == Lent(5, 1), what="the report")
    # Another takes the place, with the new file.
    await port.join(1)
    assert port.fleet.missing == 0
    shelf.link.close()
    assert (await borrower.heard.next_message(MemoryGone)).node == here.node
    assert port.fleet.memory.lenders == []
    assert port.fleet.missing == 0


@pytest.mark.parametrize(
    "message", [SessionFailed(Epoch(1, 1), SessionId(1), 0, "", ""), Ready(Epoch(1, 1), 1, 1, 1.0)]
)
async def test_a_node_that_only_lends_memory_says_nothing_else(
    port: Port, message: ControlMessage
) -> None:
    shelf = await port.join(0, lends_bytes=1 << 30)
    shelf.link.send(message)
    assert await shelf.heard.wait_ended() is not None
    assert port.failed == []


async def test_a_resting_node_that_only_lends_memory_is_not_given_a_place(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module, "WATCH_S", 0.01)
    shelf = await port.join(0, lends_bytes=1 << 30)
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(port.fleet.watch())
        [member] = port.fleet.memory.lenders
        for resting in (True, False):
            port.register.rest(member.link.peer, resting=resting)
            await wait_until(lambda: member.resting is resting, what="the register's word")  # noqa: B023
        assert port.fleet.members == []
        port.register.revoke(member.link.peer)
        assert (await shelf.heard.next_message(Refusal)).final
        watching.cancel()
    assert port.fleet.memory.lenders == []
