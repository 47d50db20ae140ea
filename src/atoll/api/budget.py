"""Tokens a minute of one key: what it has left, and when it may ask again.

Pure: callers pass the time. A budget fills steadily up to one minute's worth. A request
may begin while anything is left, and takes what it turns out to need, also beyond what is
there: how long an answer gets is not known before. The debt is waited for by the next
request, so that over time a key gets no more than its rate.
"""

from __future__ import annotations

import math

MINUTE_S = 60.0


class TokenBudget:
    """One key's tokens.

    Args:
        per_minute: Tokens a minute; at least 1.
        now_s: The time; it never goes back.
    """

    def __init__(self, per_minute: int, *, now_s: float) -> None:
        self.per_minute = per_minute
        self._left = float(per_minute)
        self._at_s = now_s

    def left(self, *, now_s: float) -> float:
        """Tokens left; negative where the key is in debt."""
        filled = (now_s - self._at_s) * self.per_minute / MINUTE_S
        self._left = min(float(self.per_minute), self._left + filled)
        self._at_s = now_s
        return self._left

    def take(self, tokens: int, *, now_s: float) -> None:
        """Tokens were used."""
        self._left = self.left(now_s=now_s) - tokens

    def set_rate(self, per_minute: int, *, now_s: float) -> None:
        """The rate is another one from now on; a debt stays."""
        left = self.left(now_s=now_s)
        self.per_minute = per_minute
        self._left = min(float(per_minute), left)

    def wait_s(self, *, now_s: float) -> int:
        """Whole seconds until a request may begin; 0: now."""
        left = self.left(now_s=now_s)
        if left >= 1:
            return 0
        return math.ceil((1 - left) * MINUTE_S / self.per_minute)
