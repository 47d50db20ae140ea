"""Messages between parent and child: any chunking, no excess, no garbage."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.domain.errors import EngineFault
from atoll.engine.channel import (
    HEADER_BYTES_MAX,
    LENGTHS,
    PAYLOAD_BYTES_MAX,
    Broken,
    ChildChannel,
    Splitter,
    pack,
    widen_buffers,
)


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    number: int


class Order(msgspec.Struct, frozen=True, tag="order"):
    word: str


ENCODE = msgspec.msgpack.Encoder().encode
REPLIES = msgspec.msgpack.Decoder(Answer | Broken)
ORDERS = msgspec.msgpack.Decoder(Order)

MESSAGES: list[tuple[Answer | Broken, bytes]] = [
    (Answer(1), b"abcde"),
    (Answer(2), b""),
    (Broken("no room", "close something"), b""),
    (Answer(3), bytes(range(256)) * 4),
]
STREAM = b"".join(pack(ENCODE(message), payload) for message, payload in MESSAGES)


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_any_chunking_gives_the_same_messages(cuts: list[int]) -> None:
    splitter = Splitter(REPLIES)
    found = []
    edges = [0, *sorted(cuts), len(STREAM)]
    for start, end in pairwise(edges):
        found += splitter.feed(STREAM[start:end])
    assert found == MESSAGES


def test_byte_by_byte_and_all_at_once() -> None:
    one, all_at_once = Splitter(REPLIES), Splitter(REPLIES)
    found = [message for byte in STREAM for message in one.feed(bytes([byte]))]
    assert found == MESSAGES == all_at_once.feed(memoryview(STREAM))


def test_payloads_outlive_the_buffer_they_came_in() -> None:
    splitter = Splitter(REPLIES)
    buffer = bytearray(STREAM)
    found = splitter.feed(memoryview(buffer))
    buffer[:] = bytes(len(buffer))
    splitter.feed(STREAM)
    assert found == MESSAGES


@pytest.mark.parametrize(
    "lengths", [(HEADER_BYTES_MAX + 1, 0), (0, PAYLOAD_BYTES_MAX + 1), (2**32 - 1, 2**32 - 1)]
)
def test_lengths_beyond_the_bounds_are_refused_before_they_come(lengths: tuple[int, int]) -> None:
    with pytest.raises(EngineFault, match="beyond its bounds"):
        Splitter(REPLIES).feed(LENGTHS.pack(*lengths))


@pytest.mark.parametrize(
    "header", [b"", b"\xff", b"garbage", ENCODE({"type": "unheard of"}), ENCODE(Order("x"))]
)
def test_garbage_is_refused(header: bytes) -> None:
    with pytest.raises(EngineFault, match="bad message"):
        Splitter(REPLIES).feed(pack(header))


@given(data=st.binary(min_size=8, max_size=64))
def test_noise_raises_nothing_else(data: bytes) -> None:
    with suppress(EngineFault):
        assert len(Splitter(REPLIES).feed(data)) < len(data)


def test_several_payloads_are_one() -> None:
    message = Answer(1)
    parts = pack(ENCODE(message), b"ab", memoryview(b"cde"))
    assert Splitter(REPLIES).feed(parts) == [(message, b"abcde")]


@pytest.fixture
def pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    widen_buffers(ours)
    widen_buffers(theirs)
    return ours, theirs


def test_a_child_gets_requests_in_order_until_its_parent_is_gone(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    channel = ChildChannel[Order](theirs, ORDERS)
    ours.sendall(pack(ENCODE(Order("one")), b"1234") + pack(ENCODE(Order("two"))))
    assert channel.receive() == (Order("one"), b"1234")
    assert channel.receive() == (Order("two"), b"")
    ours.close()
    assert channel.receive() is None
    theirs.close()


def test_a_child_sends_more_than_the_socket_holds(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    channel = ChildChannel[Order](theirs, ORDERS)
    payload = bytes(range(256)) * 65536
    message = Answer(1)
    sender = threading.Thread(target=channel.send, args=(message, payload))
    sender.start()
    splitter = Splitter(REPLIES)
    found: list[tuple[Answer | Broken, bytes]] = []
    while not found:
        found = splitter.feed(ours.recv(1 << 20))
    sender.join()
    assert found == [(message, payload)]
    ours.close()
    theirs.close()


def test_a_child_ends_quietly_when_its_parent_left_amid_an_answer(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """A node that closes while a batch is computed should find no traceback in its log."""
    ours, theirs = pair
    channel = ChildChannel[Order](theirs, ORDERS)
    ours.sendall(pack(ENCODE(Order("work"))))
    assert channel.receive() is not None
    ours.close()
    with pytest.raises(SystemExit) as caught:
        channel.send(Answer(1), b"result")
    assert caught.value.code == 0
    theirs.close()


def test_a_parent_that_left_answers_unread_is_gone(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    channel = ChildChannel[Order](theirs, ORDERS)
    channel.send(Answer(1), b"never read")
    ours.close()
    assert channel.receive() is None
    theirs.close()


def test_a_child_refuses_what_it_does_not_know(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    channel = ChildChannel[Order](theirs, ORDERS)
    ours.sendall(pack(ENCODE(Broken("what"))))
    with pytest.raises(EngineFault, match="bad message"):
        channel.receive()
    ours.close()
    theirs.close()
