"""Tickets: one line that names the gateway, and nothing that is not whole."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.domain.address import HostPort
from atoll.net.identity import Identity
from atoll.net.private_file import PrivateFileFault
from atoll.net.ticket import PREFIX, Ticket, relay_token

GATEWAY = Identity.generate().node_id
SECRET = "s" * 43


def a_ticket() -> Ticket:
    return Ticket(
        GATEWAY, (HostPort("10.1.2.3", 8643), HostPort("::1", 1)), SECRET, 1_800_000_000, 7, ""
    )


def packed(body: bytes) -> str:
    check = hashlib.sha256(body).digest()[:4]
    return PREFIX + base64.urlsafe_b64encode(body + check).decode().rstrip("=")


def with_fields(**changes: Any) -> str:
    fields: dict[str, Any] = {
        "version": 1,
        "gateway": bytes.fromhex(GATEWAY),
        "addresses": ["10.1.2.3:8643"],
        "secret": SECRET,
        "expires": 1,
        "udp_port": 8643,
        "relay": "https://relay.example",
    }
    return packed(msgspec.msgpack.encode(list((fields | changes).values())))


def test_it_is_one_line_and_comes_back_whole() -> None:
    ticket = a_ticket()
    text = ticket.text()
    assert text.startswith(PREFIX)
    assert len(text.split()) == 1
    assert Ticket.parse(f"  {text}\n") == ticket
    assert ticket.secret not in repr(ticket)


def test_a_file_of_it_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.ticket"
    a_ticket().write(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Ticket.load(path) == a_ticket()
    path.chmod(0o644)
    with pytest.raises(PrivateFileFault, match="open to other users"):
        Ticket.load(path)
    with pytest.raises(PrivateFileFault, match="no ticket at"):
        Ticket.load(tmp_path / "none")


def test_later_versions_may_add_fields() -> None:
    found = Ticket.parse(with_fields(more="x"))
    assert (found.secret, found.udp_port, found.relay) == (SECRET, 8643, "https://relay.example")
    # Those of before had no UDP port.
    first = [1, bytes.fromhex(GATEWAY), ["10.1.2.3:8643"], SECRET, 1]
    assert Ticket.parse(packed(msgspec.msgpack.encode(first))).udp_port == 0


@given(st.data())
def test_a_ticket_that_is_cut_or_mistyped_is_told(data: st.DataObject) -> None:
    text = a_ticket().text()
    at = data.draw(st.integers(len(PREFIX), len(text) - 1))
    other = data.draw(st.sampled_from("ABCxyz019-_"))
    for damaged in (text[:at], text[:at] + other + text[at + 1 :], text[:at] + text[at + 1 :]):
        if damaged == text:
            continue
        # The last character carries bits that mean nothing.
        if damaged[:-1] == text[:-1]:
            continue
        with pytest.raises(PrivateFileFault) as caught:
            Ticket.parse(damaged)
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"version": 2}, "version 2"),
        ({"gateway": b"short"}, "no gateway"),
        ({"addresses": []}, "no gateway"),
        ({"addresses": ["a:1"] * 17}, "no gateway"),
        ({"addresses": ["nowhere"]}, "no address"),
        ({"udp_port": 65536}, "no address"),
        ({"relay": "file:///etc"}, "no address"),
        ({"secret": "short"}, "no secret"),
        ({"secret": "s" * 256}, "no secret"),
        ({"secret": 7}, "is no ticket"),
        ({"expires": "soon"}, "is no ticket"),
    ],
)
def test_each_wrong_field_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(PrivateFileFault, match=problem) as caught:
        Ticket.parse(with_fields(**changes), source="the ticket")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "x", PREFIX, "atoll-key", "x" * 5000, PREFIX + "A" * 5000, PREFIX + "é", "\x00"]
)
def test_what_is_no_ticket_is_refused(text: str) -> None:
    with pytest.raises(PrivateFileFault):
        Ticket.parse(text)


def test_nesting_is_refused() -> None:
    with pytest.raises(PrivateFileFault):
        Ticket.parse(packed(b"\x91" * 2000 + b"\x01"))


def test_what_a_relay_is_shown_is_not_the_secret() -> None:
    secret = "s" * 43
    token = relay_token(secret)
    # Both sides derive it: the value may never change.
    assert token == "b780bc42f27430fd1b1468af0153dfff909d32e77d4f25e811a61d51d2d74b38"
    assert secret not in token
    assert relay_token("t" * 43) != token
    assert relay_token("") == ""
    assert relay_token("\ud800") != ""
