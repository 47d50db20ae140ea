"""The gateway that a home remembers."""

from __future__ import annotations

from pathlib import Path

import pytest

from atoll.domain.address import HostPort
from atoll.net.identity import Identity
from atoll.net.private_file import PrivateFileFault
from atoll.net.ticket import Ticket
from atoll.node.membership import FILE, Membership, forget, has_joined

TICKET = Ticket(
    Identity.generate().node_id, (HostPort("10.0.0.1", 5), HostPort("::1", 6)), "s" * 43, 1
)


def test_it_is_remembered_without_the_secret(tmp_path: Path) -> None:
    membership = Membership.of_ticket(TICKET)
    assert membership.secret == TICKET.secret
    assert not has_joined(tmp_path)
    membership.save(tmp_path)
    assert has_joined(tmp_path)
    assert TICKET.secret not in (tmp_path / FILE).read_text()
    found = Membership.load(tmp_path)
    assert found == Membership(TICKET.gateway, TICKET.addresses)
    forget(tmp_path)
    forget(tmp_path)
    with pytest.raises(PrivateFileFault, match="has joined no gateway yet"):
        Membership.load(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"gateway": "x", "addresses": []}', b'{"addresses": []}', b"\xff"],
)
def test_a_damaged_file_is_told(tmp_path: Path, content: bytes) -> None:
    Membership.of_ticket(TICKET).save(tmp_path)
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(PrivateFileFault, match="cannot be read") as caught:
        Membership.load(tmp_path)
    assert "ticket" in caught.value.hint


def test_a_file_open_to_others_is_refused(tmp_path: Path) -> None:
    Membership.of_ticket(TICKET).save(tmp_path)
    (tmp_path / FILE).chmod(0o666)
    with pytest.raises(PrivateFileFault, match="open to other users"):
        Membership.load(tmp_path)
