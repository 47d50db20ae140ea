from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.domain.errors import ProtocolFault
from atoll.net.websocket import (
    BINARY,
    Request,
    message,
    read_message,
    read_request,
    unmasked,
    upgrade,
)


def fed(data: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return reader


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
def test_unmasking_is_that_of_the_standard(content: bytes, mask: bytes) -> None:
    assert unmasked(content, mask) == bytes(b ^ mask[i % 4] for i, b in enumerate(content))


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
async def test_messages_of_all_lengths(size: int) -> None:
    sent = message(BINARY, bytes(size))
    head = len(sent) - size
    masked = bytes([sent[0], sent[1] | 0x80]) + sent[2:head] + bytes(4) + sent[head:]
    assert await read_message(fed(masked), 70_000) == (BINARY, bytes(size))


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (b"\x02\x80\x00\x00\x00\x00", "fragments"),
        (b"\xc2\x80\x00\x00\x00\x00", "extensions"),
        (b"\x82\x01x", "must mask"),
        (b"\x82\xfe\xff\xff", "65535 bytes, allowed are 100"),
    ],
)
async def test_what_is_not_spoken(words: bytes, problem: str) -> None:
    with pytest.raises(ProtocolFault, match=problem):
        await read_message(fed(words), 100)


async def test_requests() -> None:
    request = await read_request(fed(b"GET /ping?a=b HTTP/1.1\r\nA-b:  c \r\nodd\r\n\r\n"))
    assert request == Request("GET", "/ping", {"a-b": "c"})
    with pytest.raises(ProtocolFault, match="no request"):
        await read_request(fed(b"GET / HTTP"))
    with pytest.raises(ProtocolFault, match="not HTTP"):
        await read_request(fed(b"hello\r\n\r\n"))
    with pytest.raises(ProtocolFault, match="no WebSocket"):
        upgrade(request, "p")
    fields = {"upgrade": "WebSocket", "sec-websocket-key": "k", "sec-websocket-protocol": "q"}
    with pytest.raises(ProtocolFault, match="does not speak p"):
        upgrade(Request("GET", "/", fields), "p")
