"""Onto the register and off it, with what the node is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
from tests.support.hand_node import a_join

from atoll.domain.control import ControlMessage, Leave, Refusal
from atoll.domain.errors import LinkFault
from atoll.domain.ids import NodeId
from atoll.members.enrolment import TEXT_CHARS_MAX, enrol, part_for_good
from atoll.members.register import Register
from atoll.net.link import ControlLink

NODE = NodeId("a" * 64)


@dataclass
class FakeLink:
    peer: NodeId = NODE
    sent: list[ControlMessage] = field(default_factory=list)
    closed: bool = False

    def send(self, message: ControlMessage) -> bool:
        self.sent.append(message)
        return True

    def close(self) -> None:
        self.closed = True


def as_link(link: FakeLink) -> ControlLink:
    return cast(ControlLink, link)


@pytest.fixture
def register(tmp_path: Path) -> Register:
    return Register(tmp_path / "register.json")


def test_who_is_let_in_is_told_nothing_yet(register: Register) -> None:
    invitation, secret = register.invite("anna", uses=1, lifetime_s=60)
    link = FakeLink()
    entry = enrol(register, as_link(link), a_join(secret, 1), ("", ""))
    assert entry is not None
    assert (entry[0].node, entry[0].owner, entry[1]) == (NODE, "anna", invitation.id)
    assert (link.sent, link.closed) == ([], False)


def test_an_objection_comes_before_the_register(register: Register) -> None:
    _, secret = register.invite("anna", uses=1, lifetime_s=60)
    link = FakeLink()
    long = "x" * 2 * TEXT_CHARS_MAX
    assert enrol(register, as_link(link), a_join(secret, 1), (f"\n{long}", "why")) is None
    assert link.sent == [Refusal("?" + "x" * (TEXT_CHARS_MAX - 1), "why")]
    assert link.closed
    assert register.nodes() == ()


def test_who_was_not_invited_need_not_ask_again(register: Register) -> None:
    link = FakeLink()
    assert enrol(register, as_link(link), a_join("unknown", 1), ("", "")) is None
    [refusal] = link.sent
    assert isinstance(refusal, Refusal)
    assert refusal.final
    assert link.closed


def test_parting_for_good(register: Register, tmp_path: Path) -> None:
    _, secret = register.invite("anna", uses=1, lifetime_s=60)
    enrol(register, as_link(FakeLink()), a_join(secret, 1), ("", ""))
    link = FakeLink()
    part_for_good(register, as_link(link))
    assert (link.sent, link.closed) == ([Leave("forgotten")], True)
    assert register.nodes() == ()
    (tmp_path / "register.json").write_text("damaged")
    with pytest.raises(LinkFault):
        part_for_good(register, as_link(FakeLink()))
