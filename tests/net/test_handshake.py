from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.domain.errors import LinkFault, ProtocolFault
from atoll.domain.ids import NodeId
from atoll.net.handshake import (
    Challenge,
    ClientHandshake,
    Hello,
    ServerHandshake,
    Verdict,
    VerdictReader,
    encode_message,
    refusal,
    welcome,
)
from atoll.net.identity import Identity
from atoll.net.link import CONTROL, DATA, NotWelcome

SERVER, CLIENT = Identity.generate(), Identity.generate()
NONCE, OTHER_NONCE, CLIENT_NONCE = b"s" * 32, b"o" * 32, b"c" * 32


def a_client() -> ClientHandshake:
    return ClientHandshake(SERVER.node_id, CLIENT, DATA, CLIENT_NONCE)


def a_hello(nonce: bytes = NONCE, server: NodeId = SERVER.node_id) -> Hello:
    client = ClientHandshake(server, CLIENT, DATA, CLIENT_NONCE)
    sent = client.feed(ServerHandshake(server, nonce).challenge())
    return msgspec.msgpack.decode(sent[4:], type=Hello)


def test_both_sides_agree() -> None:
    server, client = ServerHandshake(SERVER.node_id, NONCE), a_client()
    assert server.feed(client.feed(server.challenge())) == (CLIENT.node_id, DATA)
    assert client.feed(welcome() + b"first frame") == b""
    assert client.welcomed
    assert client.rest == b"first frame"


def test_byte_by_byte() -> None:
    server, client = ServerHandshake(SERVER.node_id, NONCE), a_client()
    hello = b"".join(client.feed(bytes([byte])) for byte in server.challenge())
    assert [server.feed(bytes([byte])) for byte in hello][-1] == (CLIENT.node_id, DATA)


@pytest.mark.parametrize(
    ("hello", "problem"),
    [
        (a_hello(nonce=OTHER_NONCE), "signature"),
        (a_hello(server=Identity.generate().node_id), "signature"),
        (msgspec.structs.replace(a_hello(), kind=CONTROL), "signature"),
        (msgspec.structs.replace(a_hello(), nonce=OTHER_NONCE), "signature"),
        (
            msgspec.structs.replace(a_hello(), key=bytes.fromhex(Identity.generate().node_id)),
            "signature",
        ),
        (msgspec.structs.replace(a_hello(), signature=bytes(64)), "signature"),
        (msgspec.structs.replace(a_hello(), signature=b""), "signature"),
        (msgspec.structs.replace(a_hello(), kind="root"), "unknown kind"),
        (msgspec.structs.replace(a_hello(), version=2), "link version 2"),
        (msgspec.structs.replace(a_hello(), key=b"k"), "wrong length"),
        (msgspec.structs.replace(a_hello(), nonce=b"n"), "wrong length"),
        (Challenge(1, NONCE), "expected a hello"),
        (Verdict(True), "expected a hello"),
    ],
)
def test_server_refuses(hello: Any, problem: str) -> None:
    with pytest.raises(ProtocolFault, match=problem):
        ServerHandshake(SERVER.node_id, NONCE).feed(encode_message(hello))


def test_server_takes_nothing_before_its_verdict() -> None:
    with pytest.raises(ProtocolFault, match="before the verdict"):
        ServerHandshake(SERVER.node_id, NONCE).feed(encode_message(a_hello()) + b"x")


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (Verdict(True), "expected a challenge"),
        (Challenge(2, NONCE), "link version 2"),
        (Challenge(1, b"short"), "link version"),
        (a_hello(), "expected a challenge"),
    ],
)
def test_client_refuses(message: Any, problem: str) -> None:
    with pytest.raises(ProtocolFault, match=problem):
        a_client().feed(encode_message(message))


def test_client_hears_why_it_is_refused() -> None:
    client = a_client()
    client.feed(ServerHandshake(SERVER.node_id, NONCE).challenge())
    with pytest.raises(NotWelcome, match="no such member") as caught:
        client.feed(refusal(LinkFault("no such member", hint="ask")))
    assert caught.value.hint == "ask"
    with pytest.raises(NotWelcome, match="full"):
        a_client().feed(refusal(LinkFault("full")))
    client = a_client()
    client.feed(ServerHandshake(SERVER.node_id, NONCE).challenge())
    with pytest.raises(ProtocolFault, match="expected a verdict"):
        client.feed(encode_message(Challenge(1, NONCE)))


def test_refusals_cannot_command_a_terminal() -> None:
    with pytest.raises(NotWelcome) as caught:
        a_client().feed(refusal(LinkFault("full\x1b[2J\n\u202e", hint="\x07")))
    assert str(caught.value) == "full?[2J?? (?)"


def test_refusals_are_cut_to_fit() -> None:
    client = a_client()
    client.feed(ServerHandshake(SERVER.node_id, NONCE).challenge())
    with pytest.raises(NotWelcome):
        client.feed(refusal(LinkFault("\U0001f3dd" * 9000, hint="\U0001f3dd" * 9000)))


@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_nothing_but_link_faults(data: bytes) -> None:
    for side in (ServerHandshake(SERVER.node_id, NONCE), a_client()):
        for prefix in (b"", len(data).to_bytes(4, "big")):
            with contextlib.suppress(LinkFault):
                side.feed(prefix + data)


@pytest.mark.parametrize("data", [b"\x00\x00\x00\x00", b"\x00\x00\x10\x01", b"\xff" * 8])
def test_lengths_are_bounded(data: bytes) -> None:
    with pytest.raises(ProtocolFault, match="handshake message of"):
        ServerHandshake(SERVER.node_id, NONCE).feed(data)


@pytest.mark.parametrize("cut", [0, 1, 4, 5])
def test_verdict_alone_cut_anywhere_with_what_follows(cut: int) -> None:
    reader, words = VerdictReader(), welcome() + b"frames"
    if cut:
        assert not reader.feed(words[:cut])
    assert reader.feed(words[cut:])
    assert reader.rest == b"frames"


def test_verdict_alone_may_be_a_refusal_and_nothing_else() -> None:
    with pytest.raises(NotWelcome, match="full"):
        VerdictReader().feed(refusal(LinkFault("full", hint="later")))
    with pytest.raises(ProtocolFault, match="expected a verdict"):
        VerdictReader().feed(encode_message(Challenge(1, bytes(32))))
