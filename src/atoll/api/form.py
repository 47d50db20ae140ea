"""How an endpoint writes its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from atoll.api.choices import Delta, Entry
from atoll.api.replies import Usage
from atoll.domain.generation import FinishReason


@dataclass(slots=True)
class Finished:
    """One whole choice."""

    text: list[str] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    finish: FinishReason = "stop"

    def add(self, delta: Delta) -> None:
        """Add what a token brought."""
        self.text.append(delta.text)
        self.entries.extend(delta.entries)
        if delta.finish is not None:
            self.finish = delta.finish


class Form(Protocol):
    """How an endpoint writes its answer; every method returns JSON."""

    def opening(self, index: int) -> bytes:
        """What the stream of a choice begins with; empty for nothing."""
        ...

    def delta(self, index: int, delta: Delta) -> bytes:
        """What a token added; `delta.finish` is left to `closing`."""
        ...

    def closing(self, index: int, finish: FinishReason) -> bytes:
        """What the stream of a choice ends with."""
        ...

    def usage(self, usage: Usage) -> bytes:
        """The last event of a stream whose client asked for usage."""
        ...

    def whole(self, choices: Sequence[Finished], usage: Usage) -> bytes:
        """The answer without streaming."""
        ...
