"""The nodes that have joined: let in by a one-time secret, heard, and missed.

A place in the ring belongs to a join file. When its node is lost, a new file
with a new secret is written, so that a replacement can come.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from atoll import __version__
from atoll.domain.control import (
    ControlMessage,
    Join,
    Leave,
    PlanNotice,
    Ready,
    Refusal,
    SessionFailed,
    StageFailed,
    StageReport,
    Welcome,
)
from atoll.domain.errors import AtollError, LinkFault, RingDown
from atoll.domain.ids import Epoch, NodeId
from atoll.engine.library import ENGINE_BUILD
from atoll.net.join_file import JoinFile, JoinSecrets
from atoll.net.link import ControlLink

log = logging.getLogger(__name__)

STRANGERS_MAX = 64
"""Control links that may stand without having introduced themselves."""
INTRODUCTION_S = 10.0
"""How long a stranger may take to introduce itself."""


@dataclass(slots=True)
class Member:
    """A node that is in."""

    place: int
    name: str
    join: Join
    link: ControlLink
    ready: Ready | None = None
    report: StageReport | None = None


class Fleet:
    """All members, one for each place.

    Args:
        places: How many nodes the ring is to have.
        join_dir: Where join files are written.
        tell: Takes one line at a time for the operator to read.
    """

    def __init__(self, places: int, join_dir: Path, *, tell: Callable[[str], None]) -> None:
        self._places = places
        self._join_dir = join_dir
        self._tell = tell
        self._secrets = [JoinSecrets() for _ in range(places)]
        self._members: dict[NodeId, Member] = {}
        self._strangers: dict[ControlLink, asyncio.TimerHandle] = {}
        self._epoch: Epoch | None = None
        self._closed = False
        self._changes = 0
        self._changed = asyncio.Event()
        self._full = asyncio.Event()
        self._address: tuple[str, int, NodeId] | None = None
        self.on_lost: Callable[[AtollError], None] = lambda _error: None
        self.on_session_failed: Callable[[SessionFailed], None] = lambda _message: None

    @property
    def members(self) -> list[Member]:
        """Who is in, by place."""
        return sorted(self._members.values(), key=lambda member: member.place)

    @property
    def missing(self) -> int:
        """How many nodes are still to come."""
        return self._places - len(self._members)

    @property
    def changes(self) -> int:
        """How often somebody came or left."""
        return self._changes

    @property
    def address(self) -> tuple[str, int]:
        """Where nodes reach the gateway."""
        assert self._address is not None, "the fleet is not open yet"
        return self._address[:2]

    def open(self, host: str, port: int, gateway: NodeId) -> list[Path]:
        """Write a join file for every place; nodes may come from now on."""
        self._address = (host, port, gateway)
        return [self._write_join_file(place) for place in range(self._places)]

    def close(self) -> None:
        """Say goodbye to all and take the unused join files away."""
        self._closed = True
        for member in self._members.values():
            member.link.send(Leave("the gateway is shutting down"))
            member.link.close()
        for link in list(self._strangers):
            self._forget_stranger(link)
            link.close(LinkFault("the gateway is shutting down"))
        for place in range(self._places):
            self._join_path(place).unlink(missing_ok=True)

    async def wait_full(self) -> None:
        """Wait until every place is taken."""
        await self._full.wait()

    async def wait_ready(self, epoch: Epoch) -> None:
        """Wait until every member has said that its stage of `epoch` is ready."""
        while not all(m.ready and m.ready.epoch == epoch for m in self._members.values()):
            self._changed.clear()
            await self._changed.wait()

    async def wait_change(self, since: int) -> None:
        """Wait until somebody came or left after `changes` was `since`."""
        while self._changes == since:
            self._changed.clear()
            await self._changed.wait()

    def announce(self, notice: PlanNotice, epoch: Epoch) -> None:
        """Send the plan of `epoch` to every member; reports of older ones count no more."""
        self._epoch = epoch
        for member in self.members:
            member.ready = member.report = None
            member.link.send(notice)

    def _join_path(self, place: int) -> Path:
        return self._join_dir / f"node-{place + 1}.join"

    def _write_join_file(self, place: int) -> Path:
        assert self._address is not None
        host, port, gateway = self._address
        path = self._join_path(place)
        JoinFile(host, port, gateway, self._secrets[place].create()).write(path)
        return path

    def on_control(self, link: ControlLink) -> None:
        """A node has opened a control link; it has to introduce itself."""
        if self._closed or len(self._strangers) >= STRANGERS_MAX:
            link.close(LinkFault("too many wait to be let in", hint="try again shortly"))
            return
        self._strangers[link] = asyncio.get_running_loop().call_later(
            INTRODUCTION_S, link.close, LinkFault("no introduction came in time")
        )
        link.start(_MemberLink(self, link))

    def _forget_stranger(self, link: ControlLink) -> None:
        timer = self._strangers.pop(link, None)
        if timer is not None:
            timer.cancel()

    def heard(self, link: ControlLink, message: ControlMessage) -> None:
        """A message on a control link."""
        member = self._members.get(link.peer)
        if member is None or member.link is not link:
            self._forget_stranger(link)
            self._admit(link, message)
            return
        if isinstance(message, Ready | StageReport | StageFailed) and message.epoch != self._epoch:
            log.info("fleet.late node=%s said=%s", member.name, type(message).__name__)
            return
        match message:
            case Ready():
                member.ready = message
                self._changed.set()
            case StageReport():
                member.report = message
            case SessionFailed():
                self.on_session_failed(message)
            case StageFailed(_, problem):
                self._tell(f"{member.name}: {problem}")
                self.on_lost(RingDown(f"the stage on {member.name} failed: {problem}"))
            case Leave(reason):
                link.close(LinkFault(f"the node leaves: {reason}"))
            case _:
                raise LinkFault(f"a node may not send a {type(message).__name__}")

    def _admit(self, link: ControlLink, message: ControlMessage) -> None:
        if not isinstance(message, Join):
            raise LinkFault("a node has to introduce itself first")
        problem, hint = self._objection(link, message)
        place = None if problem else self._redeem(message.secret)
        if place is None:
            problem = problem or "its join secret is not valid (any more)"
            hint = hint or "use the join file that the gateway wrote last; it is good for one join"
            log.warning("fleet.refused node=%s problem=%s", link.peer, problem)
            link.send(Refusal(problem, hint))
            link.close()
            return
        self._join_path(place).unlink(missing_ok=True)
        name = message.name or f"node-{place + 1}"
        if any(member.name == name for member in self._members.values()):
            name = f"{name}-{link.peer[:6]}"
        self._members[link.peer] = Member(place, name, message, link)
        link.send(Welcome(name))
        self._tell(f"{name} joined ({len(self._members)} of {self._places})")
        self._note_change()
        if len(self._members) == self._places:
            self._full.set()

    def _objection(self, link: ControlLink, join: Join) -> tuple[str, str]:
        """Why a node may not come in, and what to do about it; empty if it may."""
        if link.peer in self._members:
            return "a node with this key is here already", "give each node a home of its own"
        if join.engine_build != ENGINE_BUILD:
            return (
                f"its engine is {join.engine_build}, the gateway's is {ENGINE_BUILD}",
                "install the same version of Atoll; a library of its own must be of that build",
            )
        if join.version.split(".")[:2] != __version__.split(".")[:2]:
            return (
                f"it runs Atoll {join.version}, the gateway {__version__}",
                "install the same version of Atoll",
            )
        if not self.missing:
            return "the ring has all the nodes it was started for", "start it with more --nodes"
        return "", ""

    def _redeem(self, secret: str) -> int | None:
        """The place that a secret is good for; it is used up by this."""
        found = [place for place, open_ in enumerate(self._secrets) if open_.redeem(secret)]
        return found[0] if found else None

    def lost(self, link: ControlLink, reason: LinkFault | None) -> None:
        """A control link is gone."""
        self._forget_stranger(link)
        member = self._members.get(link.peer)
        if member is None or member.link is not link:
            return
        del self._members[link.peer]
        self._full.clear()
        self._note_change()
        if self._closed:
            return
        # Streams end first: writing the file may fail.
        self.on_lost(RingDown(f"the node {member.name} is gone"))
        said = f"{member.name} is gone ({reason.problem if reason else 'left'})"
        try:
            path = self._write_join_file(member.place)
        except AtollError as error:
            self._tell(f"{said}; no join file for its replacement can be written: {error}")
        else:
            self._tell(f"{said}; to replace it: {path}")

    def _note_change(self) -> None:
        self._changes += 1
        self._changed.set()


class _MemberLink:
    """Handler of one control link."""

    def __init__(self, fleet: Fleet, link: ControlLink) -> None:
        self._fleet, self._link = fleet, link

    def on_message(self, message: ControlMessage) -> None:
        self._fleet.heard(self._link, message)

    def on_closed(self, reason: LinkFault | None) -> None:
        self._fleet.lost(self._link, reason)
