"""Pace: what a loop of the ring takes, split into links and computing."""

from __future__ import annotations

WEIGHT = 0.1
"""How much one window counts in the measured times of stages."""
QUICK_WEIGHT, SLOW_WEIGHT = 0.3, 0.03
"""How much a window counts that was quicker, or slower, on links than those before: a slow
one may have waited for others."""
ROW_SHARE = 1 / 8
"""A further row's share of a lone row's time, until windows of unlike sizes have told it."""
SPREAD_MIN = 0.25
"""Variance of the flights' rows from which on they tell what a row takes."""
FAR_TIMES, FAR_S = 2.0, 0.01
"""A loop is far if links take so many times what stages compute of it, and so many seconds."""


class Pace:
    """What links and stages take, as windows tell that come back; seconds.

    Stages take a base for each call and some time for each row in it: a line through what
    flights of several sizes took, the latest counting most. What else passes until a
    window is back it was on links, or waited; the quick ones tell the links' time.
    """

    def __init__(self) -> None:
        self.away_s = self.base_s = self.row_s = 0.0
        """On links; of all stages together for a call, and for each row of it."""
        self.draft_s = 0.0
        """What the draft model takes for a guess."""
        self.streams = 1
        """Sessions that decode."""
        self.guessed = self.right = 0
        """Tokens guessed that were checked, and those of them that were right."""
        self.moment = 0
        """Windows that were timed; what was worked out for one may not be so for the next."""
        self._rows = self._busy = self._rows_spread = self._together = 0.0

    @property
    def is_known(self) -> bool:
        """Whether anything was timed."""
        return self.moment > 0

    @property
    def loop_s(self) -> float:
        """A lone row's way round."""
        return self.away_s + self.work_s(1)

    @property
    def is_far(self) -> bool:
        """Whether most of a loop passes on links."""
        return self.away_s > FAR_TIMES * self.work_s(1) and self.away_s > FAR_S

    def work_s(self, rows: int) -> float:
        """What all stages together compute for a flight of so many rows."""
        return self.base_s + rows * self.row_s

    def note(self, rows: int, lap_s: float, busy_s: float) -> None:
        """A window came back.

        Args:
            rows: Of all windows of its flight.
            lap_s: How long it was on its way; 0: not timed.
            busy_s: How much of that stages computed.
        """
        if lap_s <= 0:
            return
        away_s = max(0.0, lap_s - busy_s)
        self.moment += 1
        if self.moment == 1:
            self.away_s, self._rows, self._busy = away_s, rows, busy_s
            self.row_s = busy_s * ROW_SHARE / (1 + ROW_SHARE * (rows - 1))
        else:
            weight = QUICK_WEIGHT if away_s < self.away_s else SLOW_WEIGHT
            self.away_s += (away_s - self.away_s) * weight
            self._fit(rows, busy_s)
        self.base_s = max(0.0, self._busy - self._rows * self.row_s)

    def lanes(self, parallel: int) -> int:
        """How many flights all streams are best spread over: the shortest step of all.

        With n streams in L flights of m = ceil(n / L) rows a step takes
        max(away + work(m), L * work(m) / parallel).

        Args:
            parallel: Flights that can be computed at the same time.
        """

        def step_s(lanes: int) -> float:
            work_s = self.work_s(-(-self.streams // lanes))
            return max(self.away_s + work_s, lanes * work_s / parallel)

        return min(range(1, max(1, self.streams) + 1), key=step_s)

    def _fit(self, rows: int, busy_s: float) -> None:
        """A weighted line through what flights took (West, 1979: updating variances)."""
        rows_off, busy_off = rows - self._rows, busy_s - self._busy
        self._rows += WEIGHT * rows_off
        self._busy += WEIGHT * busy_off
        keep = 1 - WEIGHT
        self._rows_spread = keep * (self._rows_spread + WEIGHT * rows_off * rows_off)
        self._together = keep * (self._together + WEIGHT * rows_off * busy_off)
        if self._rows_spread >= SPREAD_MIN:
            self.row_s = min(max(0.0, self._together / self._rows_spread), self._busy / self._rows)
