"""Server-sent events, read line by line."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from atoll.domain.errors import LinkFault

EVENT_CHARS_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `kind` is "message" and `id` empty where the server names none."""

    data: str
    kind: str = "message"
    id: str = ""


async def lines_of(parts: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """The lines of a stream of bytes, without their ends.

    Only CR, LF and both end a line: JSON leaves the other characters that Python
    splits at as they are.

    Raises:
        LinkFault: A line is longer than `EVENT_CHARS_MAX` bytes.

    Source: WHATWG HTML, section 9.2.5, parsing an event stream.
    """
    rest = b""
    async for part in parts:
        rest += part
        *lines, rest = _LINE_END.split(rest)
        for line in lines:
            yield line.decode("utf-8", "replace")
        if len(rest) > EVENT_CHARS_MAX:
            raise _too_long()
    if rest:
        yield rest.removesuffix(b"\r").decode("utf-8", "replace")


_LINE_END = re.compile(rb"\r\n|\n|\r(?!\n|\Z)")
"""A CR at the very end may be half of an end that is still coming."""


def _too_long() -> LinkFault:
    return LinkFault(
        f"the server sent an event of more than {EVENT_CHARS_MAX} characters",
        hint="check that the address is that of an OpenAI-compatible API",
    )


async def events(lines: AsyncIterator[str]) -> AsyncIterator[Event]:
    """The events of a stream, given its lines without their ends.

    An event that the stream's end cut off is dropped, as the standard says.

    Raises:
        LinkFault: An event is longer than `EVENT_CHARS_MAX`.

    Source: WHATWG HTML, section 9.2.6, interpreting an event stream.
    """
    data: list[str] = []
    kind, number, size = "", "", 0
    async for line in lines:
        if not line:
            if data:
                yield Event("\n".join(data), kind or "message", number)
            data, kind, number, size = [], "", "", 0
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        size += len(line)
        if size > EVENT_CHARS_MAX:
            raise _too_long()
        if name == "data":
            data.append(value)
        elif name == "event":
            kind = value
        elif name == "id":
            number = value
