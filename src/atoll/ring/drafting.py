"""Guesses at a session's next tokens, and how many of them are worth sending.

`Lookup` finds where the last few tokens stood before and guesses what followed
there: texts that summarise or edit repeat what they were given (prompt lookup
decoding: Saxena, 2023; LLMA, arXiv:2304.04487). A guess costs rows of compute; a
wrong one costs nothing else, as tokens are sampled as if there were none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

GRAMS = (4, 3, 2)
"""Lengths of the runs of tokens that are looked up, the longest first."""
HIT_FIRST = 0.35
"""Share of guesses taken to be right before any was checked."""
HIT_WEIGHT = 1 / 12
"""How much one checked guess counts in the measured share."""
QUICK_WEIGHT, SLOW_WEIGHT = 0.3, 0.1
"""How much a lap counts that was quicker, or slower, than those before."""
FAR_TIMES, FAR_S = 3.0, 0.01
"""A loop is far if it takes so many times what stages compute, and so many seconds more."""
HIT_REGAIN = 0.02
"""By how much of the way the share goes back to `HIT_FIRST` with each token without a guess:
texts change, so what does not pay now is tried again."""


class Drafter(Protocol):
    """Guesses the tokens of one session."""

    def accept(self, tokens: Sequence[int]) -> None:
        """These were sampled next."""
        ...

    def propose(self, after: Sequence[int], n: int) -> list[int]:
        """Up to `n` guesses at what follows the accepted tokens and then `after`."""
        ...


class Lookup:
    """Guesses what followed the last time that the last tokens stood in the session.

    Args:
        prompt: The prompt's tokens.
    """

    def __init__(self, prompt: Sequence[int]) -> None:
        self._tokens: list[int] = []
        # Where the run of tokens ended last, for each length.
        self._ends: dict[tuple[int, ...], int] = {}
        self.accept(prompt)

    def accept(self, tokens: Sequence[int]) -> None:
        """These stand behind what is known."""
        known = self._tokens
        for token in tokens:
            # A run is entered once something follows it.
            for n in GRAMS:
                if len(known) >= n:
                    self._ends[tuple(known[-n:])] = len(known)
            known.append(token)

    def propose(self, after: Sequence[int], n: int) -> list[int]:
        """What followed the last tokens where they stood before, or nothing."""
        found: list[int] = []
        text = [*self._tokens[-GRAMS[0] :], *after]
        while len(found) < n:
            at = self._look_up(text)
            if at is None:
                break
            more = self._tokens[at : at + n - len(found)]
            found += more
            text += more
        return found

    def _look_up(self, text: Sequence[int]) -> int | None:
        for n in GRAMS:
            at = self._ends.get(tuple(text[-n:])) if len(text) >= n else None
            if at is not None:
                return at
        return None


class Pace:
    """What a loop of the ring takes, and what each further row of a window adds; seconds.

    Of windows that were alone on their way. Others' windows may have been before them,
    so short laps count more than long ones.
    """

    def __init__(self) -> None:
        self.loop_s = self.busy_s = self.row_s = 0.0
        self.guessed = self.right = 0
        """Tokens guessed that were checked, and those of them that were right."""

    @property
    def is_far(self) -> bool:
        """Whether most of a loop passes on links: then more flights may be on their way."""
        return self.loop_s > FAR_TIMES * self.busy_s and self.loop_s - self.busy_s > FAR_S

    def note(self, rows: int, lap_s: float, busy_s: float) -> None:
        """A window of so many rows went round.

        Args:
            rows: Its rows.
            lap_s: How long it was on its way; 0: not timed.
            busy_s: How much of that stages computed.
        """
        if lap_s <= 0:
            return
        if not self.loop_s:
            self.loop_s, self.busy_s = lap_s, busy_s
        elif rows == 1 or lap_s < self.loop_s:
            weight = QUICK_WEIGHT if lap_s < self.loop_s else SLOW_WEIGHT
            self.loop_s += (lap_s - self.loop_s) * weight
            self.busy_s += (busy_s - self.busy_s) * weight
        else:
            extra_s = (lap_s - self.loop_s) / (rows - 1)
            weight = QUICK_WEIGHT if extra_s < self.row_s else SLOW_WEIGHT
            self.row_s += (extra_s - self.row_s) * weight


class Worth:
    """How many guesses are worth sending, by the share that turned out right."""

    def __init__(self) -> None:
        self.hit = HIT_FIRST

    def note(self, right: int, wrong: int) -> None:
        """So many guesses in a row were right, and then one was wrong or none."""
        for outcome in (*[1.0] * right, *[0.0] * wrong):
            self.hit += (outcome - self.hit) * HIT_WEIGHT

    def note_none(self) -> None:
        """A token came without a guess."""
        if self.hit < HIT_FIRST:
            self.hit += (HIT_FIRST - self.hit) * HIT_REGAIN

    def depth(self, pace: Pace, most: int) -> int:
        """The number of guesses with the most tokens a second; 0 if none pays.

        With k guesses of which each is right with probability p, a loop brings
        (1 - p^(k + 1)) / (1 - p) tokens (Leviathan et al., arXiv:2211.17192,
        equation 1), and takes k rows longer.
        """
        if not pace.loop_s:
            return most
        hit = min(self.hit, 0.999)
        best, best_rate = 0, 1 / pace.loop_s
        tokens, power = 1.0, 1.0
        for k in range(1, most + 1):
            power *= hit
            tokens += power
            rate = tokens / (pace.loop_s + k * pace.row_s)
            if rate > best_rate:
                best, best_rate = k, rate
        return best
