"""Pace: what a loop of the ring takes, split into links and computing."""

from __future__ import annotations

WEIGHT = 0.1
"""How much one call counts in the measured times of stages and ends."""
QUICK_WEIGHT, SLOW_WEIGHT = 0.3, 0.03
"""How much a window counts that was quicker, or slower, on links than those before: a slow
one may have waited for others."""
DRAFT_QUICK, DRAFT_SLOW = 0.3, 0.1
"""The same of a draft model's guesses."""
DRAFT_FORGOTTEN = 0.005
"""By how much of itself the time of a guess shrinks with each window: a model that was slow,
and is therefore not asked, is tried again."""
ROW_SHARE = 1 / 4
"""A further row's share of a lone row's time, until calls of unlike sizes have told it."""
SUPPOSED = 1.0
"""How much that share counts beside them, as a variance of calls' rows: a slope through calls of
nearly one size says little (ridge regression: Hoerl and Kennard, 1970)."""
FAR_TIMES, FAR_S = 2.0, 0.01
"""A loop is far if links take so many times what is computed of it, and so many seconds."""


class CallTime:
    """What a call takes: a base and so much for each row, seconds.

    A line through what calls of several sizes took, the latest counting most (West, 1979:
    updating means and variances), inclined to what is supposed. `known` is whether there
    was any call.
    """

    def __init__(self) -> None:
        self.base_s = self.row_s = 0.0
        self.known = False
        self._rows = self._took = self._spread = self._together = 0.0

    def note(self, rows: int, took_s: float) -> None:
        """A call of so many rows took so long."""
        if not self.known:
            self.known = True
            self._rows, self._took = rows, took_s
        else:
            rows_off, took_off = rows - self._rows, took_s - self._took
            self._rows += WEIGHT * rows_off
            self._took += WEIGHT * took_off
            self._spread += WEIGHT * ((1 - WEIGHT) * rows_off * rows_off - self._spread)
            self._together += WEIGHT * ((1 - WEIGHT) * rows_off * took_off - self._together)
        supposed_s = self._took * ROW_SHARE / (1 + ROW_SHARE * (self._rows - 1))
        row_s = (self._together + SUPPOSED * supposed_s) / (self._spread + SUPPOSED)
        self.row_s = min(max(0.0, row_s), self._took / self._rows)
        self.base_s = max(0.0, self._took - self._rows * self.row_s)


class Pace:
    """What links, stages and ends take, as windows tell that come back; seconds.

    What passes until a window is back, less what stages computed, it was on links, or
    waited; the quick ones tell the links' time.

    Args:
        parallel: Flights that can be computed at the same time.
    """

    def __init__(self, parallel: int = 1) -> None:
        self._parallel = parallel
        self.away_s = 0.0
        """On links."""
        self.stages, self.ends = CallTime(), CallTime()
        """All stages together; the last layers, sampling and the first layers."""
        self.draft_s = 0.0
        """What the draft model takes for a guess."""
        self.has_model = True
        """Whether the draft model, where there is one, still answers."""
        self.streams = 1
        """Sessions that decode."""
        self.guessed = self.right = 0
        """Tokens guessed that were checked, and those of them that were right."""
        self.moment = 0
        """Windows that were timed; what was worked out for one may not be so for the next."""
        self._shared, self._shared_at = (0.0, 0.0), (-1, 0)

    @property
    def is_known(self) -> bool:
        """Whether anything was timed."""
        return self.moment > 0

    @property
    def row_s(self) -> float:
        """What one row more takes to compute."""
        return self.stages.row_s + self.ends.row_s

    @property
    def loop_s(self) -> float:
        """A lone row's way round."""
        return self.away_s + self.work_s(1)

    @property
    def is_far(self) -> bool:
        """Whether most of a loop passes on links."""
        return self.away_s > FAR_TIMES * self.work_s(1) and self.away_s > FAR_S

    def work_s(self, rows: int) -> float:
        """What stages and ends together compute for a flight of so many rows."""
        return self.stages.base_s + self.ends.base_s + rows * self.row_s

    def pays(self, chance: float, tokens: float, guess_s: float = 0.0) -> bool:
        """Whether one guess more makes for more tokens a second.

        It does if it adds more to the tokens of a loop than its row to the loop's time, as
        shares (after Leviathan et al., arXiv:2211.17192, equation 1). Over long links
        a lone stream's further windows follow while the first are on their way, so that
        a loop is lost for a wrong guess alone, however many tokens came before it.

        Args:
            chance: That it is right, and all before it.
            tokens: That a loop is expected to bring without it.
            guess_s: What it takes to make it.
        """
        if not self.is_known:
            return True
        if self.streams == 1:
            gain = chance if self.is_far else chance / tokens
            return gain * self.loop_s > self.row_s + guess_s
        # Near, windows of unlike rows are computed one after the other: links hide no step.
        if not self.is_far:
            return False
        step_s, row_s = self._shared_step_s
        return chance / tokens * step_s > row_s + self.streams * guess_s

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
        if not self.is_known:
            self.away_s = away_s
        self.moment += 1
        self.draft_s *= 1 - DRAFT_FORGOTTEN
        weight = QUICK_WEIGHT if away_s < self.away_s else SLOW_WEIGHT
        self.away_s += (away_s - self.away_s) * weight
        self.stages.note(rows, busy_s)

    def note_draft(self, guess_s: float) -> None:
        """The draft model took so long for each guess."""
        if not self.draft_s:
            self.draft_s = guess_s
        weight = DRAFT_QUICK if guess_s < self.draft_s else DRAFT_SLOW
        self.draft_s += (guess_s - self.draft_s) * weight

    def note_ends(self, rows: int, took_s: float) -> None:
        """The ends took so long for so many returned rows; 0: not timed."""
        if took_s > 0:
            self.ends.note(rows, took_s)

    def lanes(self) -> int:
        """How many flights all streams are best spread over: the shortest step of all."""
        return min(range(1, max(1, self.streams) + 1), key=lambda lanes: self._step_s(lanes, 0))

    @property
    def _shared_step_s(self) -> tuple[float, float]:
        """What a step takes, and how much longer if each stream has a row more."""
        now = (self.moment, self.streams)
        if now != self._shared_at:
            lanes = self.lanes()
            step_s = self._step_s(lanes, 0)
            self._shared_at, self._shared = now, (step_s, self._step_s(lanes, 1) - step_s)
        return self._shared

    def _step_s(self, lanes: int, guesses: int) -> float:
        """A step of n streams in L flights of m = ceil(n / L) windows.

        It takes max(away + work(m), L * work(m) / parallel).
        """
        work_s = self.work_s(-(-self.streams // lanes) * (1 + guesses))
        return max(self.away_s + work_s, lanes * work_s / self._parallel)
