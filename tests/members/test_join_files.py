"""A file for every vacant place, and none for a taken one."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from atoll.domain.address import HostPort
from atoll.members.join_files import JoinFiles
from atoll.members.register import Invitation, Register
from atoll.net.identity import Identity
from atoll.net.ticket import Ticket

GATEWAY = Identity.generate().node_id


def a_ticket(invitation: Invitation, secret: str) -> Ticket:
    return Ticket(GATEWAY, (HostPort("127.0.0.1", 1),), secret, invitation.expires)


@pytest.fixture
def register(tmp_path: Path) -> Register:
    return Register(tmp_path / "register.json")


@pytest.fixture
def files(tmp_path: Path, register: Register) -> JoinFiles:
    return JoinFiles(tmp_path / "join", register, a_ticket)


def test_a_place_has_one_good_file(files: JoinFiles, register: Register) -> None:
    path = files.write(0)
    first = Ticket.load(path)
    assert files.write(0) == path
    second = Ticket.load(path)
    assert first.secret != second.secret
    [invitation] = register.invitations()
    assert files.place_of(invitation.id) == 0
    assert files.place_of("other") is None


def test_nothing_is_left_in_the_end(files: JoinFiles, register: Register) -> None:
    paths = [files.write(place) for place in range(3)]
    files.remove(1)
    assert [path.exists() for path in paths] == [True, False, True]
    files.close()
    assert not any(path.exists() for path in paths)
    assert register.invitations() == ()


def test_what_cannot_be_taken_back_is_logged(
    files: JoinFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files.write(0)
    (tmp_path / "register.json").write_bytes(b"{")
    with caplog.at_level(logging.WARNING):
        files.remove(0)
    assert "join_file.not_taken_back" in caplog.text
