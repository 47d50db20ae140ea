"""When a ring that broke is tried again: after growing pauses, and not for ever."""

from __future__ import annotations

from dataclasses import dataclass

AGAIN_S = 1.0
"""Pause before a ring that broke soon again is formed anew; doubled with each that does."""
ATTEMPTS_MAX = 5
"""Rings in a row that may break at once; then the next is formed when the fleet changes."""
STEADY_S = 2.0
"""A ring that served for so long was no failed attempt: the next is formed at once."""
SHORT_S = 1.0
"""Where a node is gone and none stands by: so long it may take to come back before the others
form a ring without it."""


@dataclass(slots=True)
class Patience:
    """Counts rings that broke. Times are in seconds of any one clock."""

    failed: int = 0
    again_s: float = 0.0
    since: int | None = None
    """The fleet's changes when patience was lost; None while there is some."""

    def note(self, served_s: float, *, now_s: float, changes: int) -> float:
        """A ring broke after serving `served_s`; returns when another one may be formed.

        Infinite once patience is lost: a change of the fleet restores it.
        """
        if served_s >= STEADY_S:
            self.failed = 0
            return now_s
        self.failed += 1
        if self.failed >= ATTEMPTS_MAX:
            self.since = changes
            return float("inf")
        self.again_s = now_s + AGAIN_S * 2 ** (self.failed - 1)
        return self.again_s

    def restore(self) -> None:
        """Things went as they should."""
        self.failed, self.since = 0, None

    def is_lost(self, changes: int) -> bool:
        """Whether it is tried no more, unless the fleet has changed since."""
        if self.since is not None and changes != self.since:
            self.restore()
        return self.since is not None

    def pauses(self, now_s: float) -> bool:
        """Whether it is too early to try again."""
        return now_s < self.again_s


@dataclass(slots=True)
class Shortage:
    """Since when nodes are missing, seconds of any one clock."""

    since_s: float | None = None

    def over_s(self, missing: int, now_s: float) -> float:
        """When a ring is formed without those that are missing; in the past if none are."""
        if not missing:
            self.since_s = None
            return now_s
        if self.since_s is None:
            self.since_s = now_s
        return self.since_s + SHORT_S
