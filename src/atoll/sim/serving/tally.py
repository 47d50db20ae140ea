"""What came of a simulated run: times that users saw, and what machines did for them."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True)
class Tally:
    """Times in seconds, one of each request that was answered; what befell the others."""

    first_s: array[float] = field(default_factory=lambda: array("d"))
    """From asking to the first token."""
    token_s: array[float] = field(default_factory=lambda: array("d"))
    """Between tokens after it, on average of a request that has more than one."""
    whole_s: array[float] = field(default_factory=lambda: array("d"))
    """From asking to the last token."""
    ended_s: array[float] = field(default_factory=lambda: array("d"))
    """When the last token came."""
    answers: array[int] = field(default_factory=lambda: array("q"))
    """Tokens of the answers."""
    failed: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    """What befell machines, and streams by them."""
    prompts: int = 0
    """Tokens of prompts, of requests that were answered."""
    reused: int = 0
    """Tokens of prompts whose caches were there."""

    @property
    def done(self) -> int:
        """Requests that were answered."""
        return len(self.answers)

    @property
    def tokens(self) -> int:
        """Of all answers."""
        return int(np.sum(np.frombuffer(self.answers, dtype=np.int64))) if self.done else 0

    def add(self, other: Tally) -> None:
        """Count what came of another run, too."""
        for mine, more in (
            (self.first_s, other.first_s),
            (self.token_s, other.token_s),
            (self.whole_s, other.whole_s),
            (self.ended_s, other.ended_s),
        ):
            mine.extend(more)
        self.answers.extend(other.answers)
        self.failed.update(other.failed)
        self.events.update(other.events)
        self.prompts += other.prompts
        self.reused += other.reused

    def answered(self, asked_s: float, first_s: float, end_s: float, answer: int) -> None:
        """A request got its last token."""
        self.first_s.append(first_s - asked_s)
        self.whole_s.append(end_s - asked_s)
        self.ended_s.append(end_s)
        self.answers.append(answer)
        if answer > 1:
            self.token_s.append((end_s - first_s) / (answer - 1))


class Spread(msgspec.Struct, frozen=True):
    """Percentiles of some times, seconds."""

    p50: float
    p90: float
    p95: float
    p99: float
    mean: float


def spread_of(times: array[float] | NDArray[np.float64]) -> Spread | None:
    """Their percentiles; None: there are none."""
    if not len(times):
        return None
    values = np.asarray(times, dtype=np.float64)
    p50, p90, p95, p99 = (float(v) for v in np.percentile(values, (50, 90, 95, 99)))
    return Spread(p50, p90, p95, p99, float(values.mean()))
