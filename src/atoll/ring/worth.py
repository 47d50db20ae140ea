"""Which guesses are worth sending: by what was right before, and by what a loop takes."""

from __future__ import annotations

from collections.abc import Sequence

from atoll.ring.pace import Pace

TRUST = 2.0
"""For how many checked guesses the share counts that is taken before any was checked."""
MEMORY = 0.97
"""How much a checked guess counts once the next of its grade is checked."""
HIT_WEIGHT = 1 / 12
"""How much one checked guess counts in the share over all grades."""
REGAIN = 0.02
"""By how much of the way shares go back to the first ones with each token without a guess:
texts change, so what does not pay now is tried again."""


class Worth:
    """How often one drafter's guesses at a session are right.

    Args:
        grades: Shares taken to be right before any was checked, by what a guess rests on.
        first: The share over all.
    """

    def __init__(self, grades: Sequence[float], first: float) -> None:
        self._grades = grades
        self._right = [0.0] * len(grades)
        self._checked = [0.0] * len(grades)
        self._first = first
        self.hit = first
        """Share of all guesses that was right, the latest counting most."""

    def chance(self, grade: int) -> float:
        """That a guess is right, if all before it are."""
        return (self._right[grade] + TRUST * self._grades[grade]) / (self._checked[grade] + TRUST)

    def note(self, grade: int, *, right: bool) -> None:
        """A guess was checked."""
        self._right[grade] = self._right[grade] * MEMORY + right
        self._checked[grade] = self._checked[grade] * MEMORY + 1
        self.hit += (right - self.hit) * HIT_WEIGHT

    def note_none(self) -> None:
        """A token came without a guess."""
        if self.hit < self._first:
            self.hit += (self._first - self.hit) * REGAIN
        for grade in range(len(self._grades)):
            self._right[grade] *= 1 - REGAIN
            self._checked[grade] *= 1 - REGAIN

    def token_s(self, pace: Pace, guess_s: float = 0.0) -> float:
        """Seconds a token with as many guesses as can be: only a wrong one waits for a loop.

        Args:
            pace: The ring's.
            guess_s: What it takes to make a guess.
        """
        return (1 - self.hit) * pace.loop_s + pace.row_s + guess_s
