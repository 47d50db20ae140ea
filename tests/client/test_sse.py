"""Events out of lines."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from atoll.client.sse import EVENT_CHARS_MAX, Event, events
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
        ([": comment", "id: 3", "retry: 5", "data: a", ""], [Event("a")]),
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
