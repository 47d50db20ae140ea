"""Trace: what happened in a run, as a hash of all of it and the last lines."""

from __future__ import annotations

import zlib
from collections import Counter, deque

from atoll.world.loop import SimLoop

LINES_MAX = 80
LINE_CHARS_MAX = 200


class Trace:
    """Everything that a run wrote, told or lost, in order.

    Args:
        loop: Its clock.
    """

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self._hash = 0
        self.events = 0
        self.faults: Counter[str] = Counter()
        self.lines: deque[str] = deque(maxlen=LINES_MAX)

    @property
    def digest(self) -> str:
        """Equal for runs in which the same happened at the same times."""
        return f"{self._hash:08x}-{self.events}"

    def bytes_arrived(self, where: str, data: bytes) -> None:
        """Bytes of a link arrived."""
        self.events += 1
        self._hash = zlib.crc32(
            data, zlib.crc32(f"{self._loop.time():.6f} {where}".encode(), self._hash)
        )

    def note(self, line: str) -> None:
        """Something worth a line happened."""
        self.events += 1
        text = f"{self._loop.time():9.4f} s  {line[:LINE_CHARS_MAX]}"
        self._hash = zlib.crc32(text.encode(), self._hash)
        self.lines.append(text)

    def fault(self, kind: str, line: str) -> None:
        """Something was made to go wrong."""
        self.faults[kind] += 1
        self.note(f"FAULT {kind}: {line}")
