"""Who lends memory and who borrows it: what each is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import pytest
from tests.support.hand_node import a_join

from atoll.domain.address import Address, HostPort
from atoll.domain.control import ControlMessage, EchoBack
from atoll.domain.errors import LinkFault
from atoll.domain.ids import NodeId
from atoll.domain.lent_memory import Borrower, BorrowerGone, Lent, MemoryGone, MemoryHere
from atoll.members.member import Member
from atoll.members.memory_nodes import LENDERS_MAX, MemoryNodes
from atoll.net.link import ControlLink

ADDRESS = Address(tls=HostPort("127.0.0.1", 1))


@dataclass
class FakeLink:
    peer: NodeId
    carrier: str = "tls"
    peer_host: str = "127.0.0.1"
    peer_port: int = 9
    sent: list[ControlMessage] = field(default_factory=list)

    def send(self, message: ControlMessage) -> bool:
        self.sent.append(message)
        return True


def a_member(letter: str, *, lends: int = 0, borrows: bool = True) -> tuple[Member, FakeLink]:
    link = FakeLink(NodeId(letter * 64))
    join = a_join("", 1, lends_bytes=lends, borrows_memory=borrows and not lends)
    return Member(None, letter, "owner", join, cast(ControlLink, link)), link


def test_they_are_named_to_each_other_whoever_comes_first() -> None:
    nodes = MemoryNodes()
    (first, at_first), (old, at_old) = a_member("a"), a_member("b", borrows=False)
    (shelf, at_shelf), (second, at_second) = a_member("c", lends=1 << 30), a_member("d")
    for member in (first, old, shelf, second):
        nodes.came(member)
    here = MemoryHere(at_shelf.peer, ADDRESS, 1 << 30)
    assert at_first.sent == at_second.sent == [here]
    assert at_shelf.sent == [Borrower(at_first.peer, ADDRESS), Borrower(at_second.peer, ADDRESS)]
    assert at_old.sent == [], "it would not understand"
    assert nodes.lenders == [shelf]


def test_who_leaves_is_told_of() -> None:
    nodes = MemoryNodes()
    (first, at_first), (second, at_second) = a_member("a"), a_member("b")
    shelf, at_shelf = a_member("c", lends=1 << 30)
    for member in (first, second, shelf):
        nodes.came(member)
    for link in (at_first, at_second, at_shelf):
        link.sent.clear()
    nodes.left(first)
    assert at_shelf.sent == [BorrowerGone(at_first.peer)]
    nodes.left(shelf)
    assert (at_first.sent, at_second.sent) == ([], [MemoryGone(at_shelf.peer)])
    assert nodes.lenders == []
    nodes.left(shelf)
    assert len(at_second.sent) == 1


def test_the_gateway_borrows_too() -> None:
    nodes = MemoryNodes()
    (one, at_one), (other, at_other) = a_member("a", lends=1 << 30), a_member("b", lends=1 << 30)
    nodes.came(one)
    nodes.came(other)
    assert nodes.own.lenders == [at_one.peer, at_other.peer]
    nodes.left(one)
    assert nodes.own.lenders == [at_other.peer]


def test_reports() -> None:
    nodes = MemoryNodes()
    shelf, _ = a_member("a", lends=100)
    nodes.came(shelf)
    nodes.heard(shelf, Lent(100, 3))
    assert shelf.lent == Lent(100, 3)
    with pytest.raises(LinkFault, match="more memory is used than lent"):
        nodes.heard(shelf, Lent(101, 3))
    with pytest.raises(LinkFault, match="lends memory may not send a EchoBack"):
        nodes.heard(shelf, EchoBack(1))


def test_more_than_everybody_can_be_told_of_are_not_let_in() -> None:
    nodes = MemoryNodes()
    join = a_join("", 1, lends_bytes=1 << 30)
    for number in range(LENDERS_MAX):
        assert nodes.objection(join) == ("", "")
        member, link = a_member("a", lends=1 << 30)
        link.peer = NodeId(f"{number:064x}")
        nodes.came(member)
    assert "64 nodes lend memory already" in nodes.objection(join)[0]
    assert nodes.objection(a_join("", 1)) == ("", "")


def test_shares_are_equal() -> None:
    nodes = MemoryNodes()
    assert nodes.share_bytes == 0
    for letter, lends in (("a", 4 << 20), ("b", 8 << 20), ("c", 0), ("d", 0)):
        nodes.came(a_member(letter, lends=lends)[0])
    # Two nodes, and the gateway.
    assert nodes.share_bytes == 4 << 20
