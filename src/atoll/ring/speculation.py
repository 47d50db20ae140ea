"""Speculation: a session's guessed tokens that are on their way, and what became of them.

The line holds the tokens from the first position that is not computed yet: one
that was sampled, then guesses. Windows take them from the left to the right, so
several are on their way at a time. Each window that comes back says what is
sampled behind its rows; as long as that is what was guessed the line goes on, and
from the first difference everything on its way is stale.
"""

from __future__ import annotations

from collections.abc import Sequence

from atoll.ring.coordinator_config import CoordinatorConfig
from atoll.ring.drafting import Drafter, Pace, Worth


class Speculation:
    """What is guessed of one session.

    Args:
        drafter: Guesses.
        pace: The ring's.
        config: Bounds a window's rows and the guesses on their way.
    """

    def __init__(self, drafter: Drafter, pace: Pace, config: CoordinatorConfig) -> None:
        self._drafter = drafter
        self._pace = pace
        self._rows_max = min(config.guess_rows, config.exact_chunk_rows)
        self._depth_max = config.guess_depth
        self._worth = Worth()
        self._line: list[int] = []
        self._sent = 0
        self._dry = False
        self._hot = False

    @property
    def ahead(self) -> int:
        """Guesses on their way."""
        return max(0, self._sent - 1)

    def chains(self, rows: int) -> bool:
        """Whether what is sampled behind the oldest window goes on alone at once.

        That is so where nothing else is on its way, and a guess is unlikely to pay.
        """
        if self._sent > rows:
            return False
        return not self._hot or not self._worth.depth(self._pace, self._depth_max)

    def guesses(self, rows: int) -> tuple[int, ...]:
        """What is guessed to be sampled behind each of the oldest window's rows.

        One fewer where the last row's is not guessed.
        """
        return tuple(self._line[1 : rows + 1])

    def sampled(self, tokens: Sequence[int], *, chained: bool) -> bool:
        """These came of the oldest window, the last one perhaps unlike the guess.

        Args:
            tokens: At least one; all but the last were guessed.
            chained: The last one is on its way again.

        Returns:
            Whether everything else on its way is stale.
        """
        self._drafter.accept(tokens)
        checked, n = self._line[1:], len(tokens)
        goes_on = n <= len(checked) and checked[n - 1] == tokens[-1]
        right = n if goes_on else n - 1
        wrong = int(not goes_on and n <= len(checked))
        self._pace.guessed += right + wrong
        self._pace.right += right
        self._worth.note(right, wrong)
        if not right and not wrong:
            self._worth.note_none()
        stale = not goes_on and self._sent > n
        if goes_on:
            self._line, self._sent = self._line[n:], self._sent - n
        else:
            self._line, self._sent = [tokens[-1]], int(chained)
        self._dry = False
        return stale

    def next_tokens(self, room: int) -> tuple[int, int] | None:
        """The next window's place in the line and its end; None if nothing is to be sent.

        Args:
            room: Most tokens that the line may hold.
        """
        if not self._line:
            return None
        start = self._sent
        self._guess(room, start)
        end = min(len(self._line), start + self._rows_max)
        if end == start:
            return None
        self._sent = end
        return start, end

    def tokens(self, start: int, end: int) -> tuple[int, ...]:
        """Tokens of the line."""
        return tuple(self._line[start:end])

    def _guess(self, room: int, start: int) -> None:
        """Put guesses behind the line, if more are worth it."""
        if self._dry or len(self._line) > start + 1:
            return
        depth = self._worth.depth(self._pace, self._depth_max)
        n = min(depth - (len(self._line) - 1), room - len(self._line))
        n = min(n, self._rows_max - (len(self._line) - start))
        if n <= 0:
            return
        found = self._drafter.propose(self._line[1:], n)
        self._dry = not found
        if start <= 1:
            self._hot = bool(found)
        if start == 1 and not self._pace.is_far:
            # Behind a token that went alone they would cost a step of their own.
            self._dry = True
            return
        self._line += found
