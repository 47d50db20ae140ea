"""Guesses at a session's next tokens, and how many of them are worth sending.

`Lookup` finds where the last few tokens stood before and guesses what followed
there: texts that summarise or edit repeat what they were given (prompt lookup
decoding: Saxena, 2023; LLMA, arXiv:2304.04487). A guess costs rows of compute; a
wrong one costs nothing else, as tokens are sampled as if there were none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from atoll.ring.pace import Pace

GRAMS = (4, 3, 2)
"""Lengths of the runs of tokens that are looked up, the longest first."""
HIT_FIRST = 0.35
"""Share of guesses taken to be right before any was checked."""
MODEL_FIRST = 0.7
"""The same of a draft model's guesses."""
DEPTHS = (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20)
"""Numbers of guesses that are compared."""
HIT_WEIGHT = 1 / 12
"""How much one checked guess counts in the measured share."""
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


class Worth:
    """How many guesses of one drafter are worth sending, by the share that was right.

    Args:
        first: Share taken to be right before any was checked.
    """

    def __init__(self, first: float = HIT_FIRST) -> None:
        self._first = first
        self.hit = first
        self._known: tuple[float, ...] = ()
        self._best = 0

    def note(self, right: int, wrong: int) -> None:
        """So many guesses in a row were right, and then one was wrong or none."""
        for outcome in (*[1.0] * right, *[0.0] * wrong):
            self.hit += (outcome - self.hit) * HIT_WEIGHT

    def note_none(self) -> None:
        """A token came without a guess."""
        if self.hit < self._first:
            self.hit += (self._first - self.hit) * HIT_REGAIN

    def token_s(self, pace: Pace, guess_s: float = 0.0) -> float:
        """Seconds a token with as many guesses as can be: only a wrong one waits for a loop.

        Args:
            pace: The ring's.
            guess_s: What it takes to make a guess.
        """
        return (1 - self.hit) * pace.loop_s + pace.row_s + guess_s

    def depth(self, pace: Pace, most: int, guess_s: float = 0.0) -> int:
        """The number of guesses on their way with the most tokens a second; 0 if none pays.

        Args:
            pace: The ring's.
            most: No more than these.
            guess_s: What it takes to make a guess.
        """
        if not pace.is_known:
            return most
        if pace.streams > 1 and not pace.is_far:
            # Windows of unlike rows are computed one after the other, and links hide no step.
            return 0
        known = (self.hit, pace.moment, pace.streams, guess_s, most)
        if known != self._known:
            tried = [*(k for k in DEPTHS if k < most), most]
            self._best = max(tried, key=lambda k: self._rate(pace, k, guess_s))
            self._known = known
        return self._best

    def _rate(self, pace: Pace, k: int, guess_s: float) -> float:
        """Tokens a second with k guesses on their way, each right with probability p.

        Where a loop is computing, k guesses bring (1 - p^(k + 1)) / (1 - p) tokens and
        take k rows longer (Leviathan et al., arXiv:2211.17192, equation 1). Where it
        passes on links, further guesses follow as the first come back: one loop is lost
        for each wrong one, and between those a token takes a row's time or the k-th part
        of a loop, whichever is longer. All streams together do no more than stages compute.
        """
        hit = min(self.hit, 0.999)
        loop_s, cost_s = pace.loop_s, pace.row_s + guess_s
        tokens = (1 - hit ** (k + 1)) / (1 - hit)
        together_s = pace.shared_s(pace.streams * (1 + k), pace.streams * k * guess_s)
        if pace.is_far and k:
            token_s = (1 - hit) * (loop_s + k * pace.row_s / 2) + hit * max(cost_s, loop_s / k)
        else:
            token_s = (loop_s + k * cost_s) / tokens
        return 1 / max(token_s, together_s / tokens if pace.streams > 1 else 0.0)
