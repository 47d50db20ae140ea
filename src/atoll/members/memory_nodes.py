"""Members that only lend memory, and those that may borrow it: names them to each other.

The gateway borrows too, for the ends of its rings.
"""

from __future__ import annotations

from atoll.domain.control import ControlMessage, Join
from atoll.domain.errors import LinkFault
from atoll.domain.ids import NodeId
from atoll.domain.lent_memory import Borrower, BorrowerGone, Lent, MemoryGone, MemoryHere
from atoll.members.member import Member, address_of
from atoll.node.remote_keeper import RemoteKeeper

LENDERS_MAX = 64
"""More are not let in: every borrower is told of each."""

Word = MemoryHere | MemoryGone


class MemoryNodes:
    """Who lends, and who borrows.

    `own` keeps the gateway's own blobs on the nodes that lend, once it is opened.
    """

    def __init__(self) -> None:
        self._lenders: dict[NodeId, Member] = {}
        self._borrowers: dict[NodeId, Member] = {}
        self.own = RemoteKeeper()

    @property
    def lenders(self) -> list[Member]:
        """Members that lend memory, in the order of their coming."""
        return list(self._lenders.values())

    @property
    def share_bytes(self) -> int:
        """What each borrower, the gateway among them, can count on of all that is lent."""
        lent_bytes = sum(lender.join.lends_bytes for lender in self._lenders.values())
        return lent_bytes // (len(self._borrowers) + 1)

    def objection(self, join: Join) -> tuple[str, str]:
        """Why a node may not lend, and what to do about it; empty if it may, or is none."""
        if join.lends_bytes and len(self._lenders) >= LENDERS_MAX:
            return f"{LENDERS_MAX} nodes lend memory already", "tell the gateway's operator"
        return "", ""

    def came(self, member: Member) -> None:
        """A member is in."""
        if member.lends:
            self._lenders[member.link.peer] = member
            # First to the one that is dialled.
            for borrower in self._borrowers.values():
                member.link.send(_borrower(borrower))
            self._tell(_here(member))
        elif member.join.borrows_memory:
            self._borrowers[member.link.peer] = member
            for lender in self._lenders.values():
                lender.link.send(_borrower(member))
                member.link.send(_here(lender))

    def left(self, member: Member) -> None:
        """A member is gone."""
        peer = member.link.peer
        if self._lenders.pop(peer, None) is not None:
            self._tell(MemoryGone(peer))
        elif self._borrowers.pop(peer, None) is not None:
            for lender in self._lenders.values():
                lender.link.send(BorrowerGone(peer))

    def heard(self, member: Member, message: ControlMessage) -> None:
        """A lender's message: how much of its memory is used.

        Raises:
            LinkFault: It may not say that.
        """
        if not isinstance(message, Lent):
            raise LinkFault(f"a node that lends memory may not send a {type(message).__name__}")
        if message.used_bytes > member.join.lends_bytes:
            raise LinkFault("more memory is used than lent")
        member.lent = message

    def _tell(self, word: Word) -> None:
        for borrower in self._borrowers.values():
            borrower.link.send(word)
        self.own.note(word)


def _here(member: Member) -> MemoryHere:
    return MemoryHere(member.link.peer, address_of(member), member.join.lends_bytes)


def _borrower(member: Member) -> Borrower:
    return Borrower(member.link.peer, address_of(member))
