"""The nodes that have joined: let in by ticket or key, heard, and missed.

The ring has places; who comes first takes them, and whoever comes when all are
taken is a spare that steps in for a lost node. A vacant place has a join file.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from atoll.domain.control import (
    ControlMessage,
    EchoBack,
    Fetching,
    Join,
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
    StageUnlinked,
    StandsBy,
    Welcome,
)
from atoll.domain.errors import AtollError, LinkFault, RingDown
from atoll.domain.ids import Epoch, NodeId
from atoll.domain.measure import Measured, NotMeasured
from atoll.domain.timing import PeerNotTimed, PeerTimed
from atoll.members.enrolment import TEXT_CHARS_MAX, enrol, part_for_good
from atoll.members.join_files import JoinFiles
from atoll.members.measuring import Measuring
from atoll.members.member import Member, outside_of
from atoll.members.memory_nodes import MemoryNodes
from atoll.members.misfit import misfit
from atoll.members.register import NAME_CHARS_MAX, EnrolledNode, Register
from atoll.members.strangers import Strangers
from atoll.members.waiting_room import WaitingRoom
from atoll.net.link import ControlLink, peer_text

log = logging.getLogger(__name__)

MEMBERS_MAX = 1024
WATCH_S = 1.0
"""How often the register is looked at for nodes that were revoked or set to rest."""
_OF_AN_EPOCH = (Fetching, Ready, StageReport, StageFailed, StageUnlinked)


class Fleet:
    """All members, and who of them has which place.

    Args:
        places: How many nodes the ring is to have.
        register: Who may come in.
        measuring: Has them measure themselves.
        memory_bytes: What a node must have free for the largest stage.
        room: Where nodes wait that come without a ticket; None: they are not heard.
        tell: Takes one line at a time for the operator to read.
    """

    def __init__(
        self,
        places: int,
        register: Register,
        measuring: Measuring | None = None,
        *,
        memory_bytes: int = 0,
        room: WaitingRoom | None = None,
        tell: Callable[[str], None],
    ) -> None:
        self._places = places
        self._register = register
        self._memory_bytes = memory_bytes
        self._room = room
        self.measuring = measuring or Measuring(None)
        self.memory = MemoryNodes()
        self._tell = tell
        self._files: JoinFiles | None = None
        self._members: dict[NodeId, Member] = {}
        self._strangers = Strangers()
        self._closed = False
        self._changes = 0
        self._changed = asyncio.Event()
        self._full = asyncio.Event()
        self.on_lost: Callable[[NodeId, AtollError], None] = lambda _node, _error: None
        self.on_unlinked: Callable[[NodeId, AtollError], None] = lambda _node, _error: None
        self.on_session_failed: Callable[[SessionFailed], None] = lambda _message: None
        self.on_rearranged: Callable[[], None] = lambda: None
        self.on_fetched: Callable[[], None] = lambda: None

    @property
    def members(self) -> list[Member]:
        """Who has a place, in their order."""
        return [member for place in range(self._places) if (member := self._holder(place))]

    @property
    def everybody(self) -> list[Member]:
        """Who is in and computes, in the order of their coming."""
        return [member for member in self._members.values() if not member.lends]

    def has(self, node: NodeId) -> bool:
        """Whether a node is in, and computes."""
        member = self._members.get(node)
        return member is not None and not member.lends

    @property
    def spares(self) -> list[Member]:
        """Who of them has no place, in the order of their coming."""
        return [member for member in self.everybody if member.place is None]

    @property
    def missing(self) -> int:
        """How many nodes are still to come."""
        return self._places - len(self.members)

    @property
    def changes(self) -> int:
        """How often somebody came or left."""
        return self._changes

    def open(self, files: JoinFiles) -> list[Path]:
        """Write a join file for every place; nodes may come from now on."""
        self._files = files
        return [files.write(place) for place in range(self._places)]

    def close(self) -> None:
        """Say goodbye to all and take the unused join files away."""
        self._closed = True
        self.measuring.close()
        self.memory.own.close()
        for member in self._members.values():
            member.link.send(Leave("the gateway is shutting down"))
            member.link.close()
        self._strangers.close(LinkFault("the gateway is shutting down"))
        if self._room is not None:
            self._room.close()
        if self._files is not None:
            self._files.close()

    async def watch(self) -> NoReturn:
        """Heed what the operator changes in the register, until cancelled."""
        while True:
            await asyncio.sleep(WATCH_S)
            if self._room is not None:
                self._room.heed()
            try:
                by_key = {node.node: node for node in self._register.nodes()}
            except AtollError as error:
                log.warning("fleet.register_unreadable problem=%s", error)
                continue
            for member in list(self._members.values()):
                self._heed(member, by_key.get(member.link.peer))

    def _heed(self, member: Member, enrolled: EnrolledNode | None) -> None:
        if enrolled is None or enrolled.revoked:
            reason = "the gateway's operator revoked it"
            hint = "ask the gateway's operator"
            member.link.send(Refusal("this node was revoked", hint, final=True))
            member.link.close()
            self.lost(member.link, LinkFault(reason))
            return
        member.resting = enrolled.resting
        if member.resting and member.place is not None:
            self._let_rest(member, member.place)
        elif not (member.resting or member.lends or member.place is not None) and self.missing:
            self._settle(member, "")

    def _let_rest(self, member: Member, place: int) -> None:
        """Hand a member's place to a spare; without one it has to go on."""
        spare = self._next_spare()
        if spare is None:
            if not member.told_to_stay:
                self._tell(f"{member.name} cannot rest before another node has joined")
            member.told_to_stay = True
            return
        self._tell(f"{member.name} rests; {spare.name} takes its place in the next ring")
        member.place, member.told_to_stay = None, False
        self._settle(spare, "", place)
        self.on_rearranged()

    async def wait_full(self) -> None:
        """Wait until every place is taken."""
        await self._full.wait()

    async def wait_ready(self, epoch: Epoch, members: Sequence[Member]) -> None:
        """Wait until each of them has said that its stage of `epoch` is ready."""
        while not all(m.ready and m.ready.epoch == epoch for m in members):
            await self.wait_news()

    async def wait_change(self, since: int) -> None:
        """Wait until somebody came or left after `changes` was `since`."""
        while self._changes == since:
            await self.wait_news()

    async def wait_news(self) -> None:
        """Wait until somebody comes, leaves, is ready, or tells of a shard fetched ahead."""
        self._changed.clear()
        await self._changed.wait()

    def announce(self, notice: PlanNotice, epoch: Epoch, members: Sequence[Member]) -> None:
        """Send the plan of `epoch` to whom it gives a part; reports of older ones count no more."""
        for member in members:
            member.stands_by.clear()
            member.epoch = epoch
            member.ready = member.report = member.fetching = None
            member.link.send(notice)

    def send(self, node: NodeId, message: ControlMessage) -> None:
        """Send a message to a member, if it is still here."""
        member = self._members.get(node)
        if member is not None:
            member.link.send(message)

    def _holder(self, place: int) -> Member | None:
        return next((m for m in self._members.values() if m.place == place), None)

    def on_control(self, link: ControlLink) -> None:
        """A node has opened a control link; it has to introduce itself."""
        problem = ""
        if self._closed or self._files is None:
            problem = "the gateway is starting or shutting down"
        elif not self._strangers.add(link):
            problem = "too many wait to be let in"
        if problem:
            link.close(LinkFault(problem, hint="try again shortly"))
            return
        link.start(_MemberLink(self, link))

    def heard(self, link: ControlLink, message: ControlMessage) -> None:
        """A message on a control link."""
        member = self._members.get(link.peer)
        if member is None or member.link is not link:
            self._admit(link, message)
            return
        if member.lends and not isinstance(message, Leave):
            self.memory.heard(member, message)
            return
        if isinstance(message, _OF_AN_EPOCH) and message.epoch != member.epoch:
            log.info("fleet.late node=%s said=%s", member.name, type(message).__name__)
            return
        match message:
            case Ready() | Fetching() | StageReport() | StandsBy():
                if member.heard(message):
                    self.on_fetched()
                self._changed.set()
            case Prefetching() | Prefetched() | NotPrefetched():
                member.prefetch = message
                self._changed.set()
            case Measured() | NotMeasured() | EchoBack() | PeerTimed() | PeerNotTimed():
                self.measuring.heard(member, message)
            case SessionFailed():
                self.on_session_failed(message)
            case StageFailed() | StageUnlinked():
                self._trouble(member, message)
            case Leave(reason):
                link.close(LinkFault(f"the node leaves: {peer_text(reason, TEXT_CHARS_MAX)}"))
            case _:
                raise LinkFault(f"a node may not send a {type(message).__name__}")

    def _trouble(self, member: Member, message: StageFailed | StageUnlinked) -> None:
        problem = peer_text(message.problem, TEXT_CHARS_MAX)
        self._tell(f"{member.name}: {problem}")
        if isinstance(message, StageUnlinked):
            self.on_unlinked(member.link.peer, RingDown(f"{member.name}: {problem}"))
            return
        fault = RingDown(f"the stage on {member.name} failed: {problem}")
        self.on_lost(member.link.peer, fault)

    def _admit(self, link: ControlLink, message: ControlMessage) -> None:
        self._strangers.forget(link)
        if self._room is not None and self._room.heard(link, message):
            return
        if isinstance(message, Leave):
            part_for_good(self._register, link)
            return
        if not isinstance(message, Join):
            raise LinkFault("a node has to introduce itself first")
        entry = enrol(self._register, link, message, self._objection(link, message))
        if entry is None:
            return
        enrolled, invitation = entry
        name = peer_text(message.name, NAME_CHARS_MAX) or f"node-{len(self._members) + 1}"
        if any(member.name == name for member in self._members.values()):
            name = f"{name}-{link.peer[:6]}"
        member = Member(None, name, enrolled.owner, message, link, resting=enrolled.resting)
        self._members[link.peer] = member
        link.send(Welcome(name, outside_of(link)))
        self.memory.came(member)
        if member.lends:
            self._tell(f"{name} joined, and lends {message.lends_bytes / 1e9:.2f} GB of memory")
            self._make_good(invitation)
            return
        self.measuring.came(member)
        if self.missing and not enrolled.resting:
            self._settle(member, invitation)
        else:
            self._tell(f"{name} joined as a spare")
            self._note_change()

    def _make_good(self, invitation: str) -> None:
        """A node that takes no place may have come with a place's join file: write a new one."""
        assert self._files is not None
        place = self._files.place_of(invitation)
        if place is not None:
            self._write_file(place, "that join file is used up; here is another")

    def _settle(self, member: Member, invitation: str, place: int | None = None) -> None:
        """Give a member `place`, or that of its join file, or the first vacant one."""
        assert self._files is not None
        if place is None:
            place = self._files.place_of(invitation)
        if place is None or self._holder(place):
            place = next(p for p in range(self._places) if not self._holder(p))
        member.place = place
        self._files.remove(place)
        self._tell(f"{member.name} joined ({len(self.members)} of {self._places})")
        self._note_change()
        if not self.missing:
            self._full.set()

    def _objection(self, link: ControlLink, join: Join) -> tuple[str, str]:
        """Why a node may not come in, and what to do about it; empty if it may."""
        if link.peer in self._members:
            return "a node with this key is here already", "give each node a home of its own"
        if len(self._members) >= MEMBERS_MAX:
            return f"{MEMBERS_MAX} nodes are here already", "tell the gateway's operator"
        found = misfit(join, self._memory_bytes)
        return found if found[0] else self.memory.objection(join)

    def lost(self, link: ControlLink, reason: LinkFault | None) -> None:
        """A control link is gone."""
        self._strangers.forget(link)
        if self._room is not None:
            self._room.lost(link)
        member = self._members.get(link.peer)
        if member is None or member.link is not link:
            return
        place = member.place
        del self._members[link.peer]
        self.measuring.left(member)
        self.memory.left(member)
        said = f"{member.name} is gone ({reason.problem if reason else 'left'})"
        if place is not None and not self._closed:
            self._full.clear()
        if not self._closed:
            # Streams end first: writing the file may fail.
            self.on_lost(link.peer, RingDown(f"the node {member.name} is gone"))
        self._tell(said)
        if place is None or self._closed:
            self._note_change()
        else:
            self._fill(place)

    def _fill(self, place: int) -> None:
        """Let a spare step in; where there is none, write a join file for somebody new."""
        assert self._files is not None
        spare = self._next_spare()
        if spare is not None:
            self._settle(spare, "", place)
            return
        self._note_change()
        self._write_file(place, "it can come back by itself; to replace it")

    def _write_file(self, place: int, why: str) -> None:
        assert self._files is not None
        try:
            path = self._files.write(place)
        except AtollError as error:
            self._tell(f"no join file for another node can be written: {error}")
        else:
            self._tell(f"{why}: {path}")

    def _next_spare(self) -> Member | None:
        """The spare that waits longest and is not to rest."""
        return next((member for member in self.spares if not member.resting), None)

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
