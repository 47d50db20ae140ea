"""Events out of lines."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from atoll.client.sse import EVENT_CHARS_MAX, Event, events, lines_of
from atoll.domain.errors import LinkFault


async def _lines(*lines: str) -> AsyncIterator[str]:
    for line in lines:
        yield line


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["data: a", ""], [Event("a")]),
        (["data:a", ""], [Event("a")]),
        (["data:  a", ""], [Event(" a")]),
        (["data: a", "data: b", ""], [Event("a\nb")]),
        (["event: error", "data: x", "", "data: y", ""], [Event("x", "error"), Event("y")]),
        ([": comment", "id: 3", "retry: 5", "data: a", ""], [Event("a", id="3")]),
        (["", "", "event: nothing", "", "data: a", ""], [Event("a")]),
        (["data", ""], [Event("")]),
        (["data: cut off"], []),
        ([], []),
    ],
)
async def test_lines_become_events(lines: list[str], expected: list[Event]) -> None:
    assert [event async for event in events(_lines(*lines))] == expected


async def test_an_endless_event_is_refused() -> None:
    line = "data: " + "x" * (EVENT_CHARS_MAX // 4)
    with pytest.raises(LinkFault, match="more than"):
        [event async for event in events(_lines(*[line] * 5))]


async def _parts(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([b"a\nb\r\nc\rd\n"], ["a", "b", "c", "d"]),
        ([b"a\r", b"\nb\r", b"c\n\n"], ["a", "b", "c", ""]),
        ([b"caf\xc3", b"\xa9\n"], ["caf\u00e9"]),
        ([b"x\xc2\x85y\xe2\x80\xa8z\xe2\x80\xa9\x0b\x0c\n"], ["x\x85y\u2028z\u2029\x0b\x0c"]),
        ([b"cut off"], ["cut off"]),
        ([b"\xff\n"], ["\ufffd"]),
        ([], []),
    ],
)
async def test_bytes_become_lines(parts: list[bytes], expected: list[str]) -> None:
    """What JSON leaves unescaped does not end a line."""
    assert [line async for line in lines_of(_parts(*parts))] == expected
    one_by_one = [bytes([byte]) for part in parts for byte in part]
    assert [line async for line in lines_of(_parts(*one_by_one))] == expected


async def test_an_endless_line_is_refused() -> None:
    part = b"x" * (EVENT_CHARS_MAX // 4)
    with pytest.raises(LinkFault, match="more than"):
        [line async for line in lines_of(_parts(*[part] * 5))]
