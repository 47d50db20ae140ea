"""Speculation: a session's guessed tokens that are on their way, and what became of them.

The line holds the tokens from the first position that is not computed yet: one
that was sampled, then guesses. Windows take them from the left to the right, so
several are on their way at a time. Each window that comes back says what is
sampled behind its rows; as long as that is what was guessed the line goes on, and
from the first difference everything on its way is stale.

Guesses come of a lookup at once, or of a draft model some time after they were asked
for; of the two the one that promises more tokens a second is asked. The lookup's are
hints to the model too, which takes less time over those that it would have made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from atoll.ring.coordinator_config import CoordinatorConfig
from atoll.ring.drafting import GRADES, Drafter, Guess
from atoll.ring.pace import Pace
from atoll.ring.worth import Worth

LOOKUP_FIRST, MODEL_FIRST = 0.35, 0.7
"""Shares of guesses taken to be right before any was checked."""
HINT_CHANCE = 0.5
"""Guesses of the lookup that are hints to the model; a wrong one costs the model a row."""
MODEL_STREAMS = 4
"""More sessions than these fill loops by themselves. To read all their prompts takes a draft
model longer than its guesses save: 16 streams over links of 50 ms had 30 tokens/s with it, and
56 without."""
BURST_SHARE = 1 / 4
"""A draft model is asked for as many guesses at a time as it makes in this share of a loop."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a draft model was asked for: up to `n` guesses behind the line as it was.

    `hints` are the lookup's guesses at the first of them.
    """

    line: tuple[int, ...]
    hints: tuple[int, ...]
    n: int


class Speculation:
    """What is guessed of one session.

    Args:
        drafter: Guesses at once.
        pace: The ring's.
        config: Bounds a window's rows and the guesses on their way; says whether there is
            a draft model.
    """

    def __init__(self, drafter: Drafter, pace: Pace, config: CoordinatorConfig) -> None:
        self._drafter = drafter
        self._pace = pace
        self._rows_max = min(config.guess_rows, config.exact_chunk_rows)
        self._depth_max = config.guess_depth
        self._worth = Worth(GRADES, LOOKUP_FIRST)
        self._model = Worth((MODEL_FIRST,), MODEL_FIRST) if config.draft_model else None
        self._line: list[int] = []
        # By whom each token of the line was guessed, and the guess's grade.
        self._by: list[tuple[Worth, int]] = []
        self._sent = 0
        self._dry = False
        self._hot = False
        self._asked: Asked | None = None
        self._hinted: list[Guess] = []
        self._since: list[int] = []

    def restart(self) -> None:
        """What was on its way is lost; guesses begin anew behind the next sampled token."""
        self._line, self._by, self._sent = [], [], 0
        self._dry = self._hot = False
        self._asked, self._hinted, self._since = None, [], []

    @property
    def ahead(self) -> int:
        """Guesses on their way."""
        return max(0, self._sent - 1)

    @property
    def uses_model(self) -> bool:
        """Whether a draft model's guesses promise to pay now."""
        pace = self._pace
        if self._model is None or not (pace.has_model and pace.is_far):
            return False
        if pace.streams > MODEL_STREAMS:
            return False
        return pace.pays(self._model.chance(0), 1.0, pace.draft_s)

    def chains(self, rows: int) -> bool:
        """Whether what is sampled behind the oldest window goes on alone at once.

        That is so where nothing else is on its way, and a guess is unlikely to pay or
        takes time to make.
        """
        if self._sent > rows:
            return False
        if self._prefers_model():
            return True
        return not self._hot

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
        self._since += tokens
        checked, n = self._line[1:], len(tokens)
        goes_on = n <= len(checked) and checked[n - 1] == tokens[-1]
        right = n if goes_on else n - 1
        wrong = int(not goes_on and n <= len(checked))
        self._pace.guessed += right + wrong
        self._pace.right += right
        for by, grade in self._by[1 : 1 + right]:
            by.note(grade, right=True)
        for by, grade in self._by[n : n + wrong]:
            by.note(grade, right=False)
        if not right and not wrong:
            self._worth.note_none()
        stale = not goes_on and self._sent > n
        if goes_on:
            self._line, self._by = self._line[n:], self._by[n:]
            # A guess that came since the window did can be what goes on alone.
            self._sent = 1 if chained else self._sent - n
        else:
            self._line, self._by = [tokens[-1]], [(self._worth, 0)]
            self._sent = int(chained)
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
        if self._pace.streams > 1:
            # Only windows of as many rows are computed together: few sizes meet more often.
            end = start + (1 << ((end - start).bit_length() - 1))
        self._sent = end
        return start, end

    def tokens(self, start: int, end: int) -> tuple[int, ...]:
        """Tokens of the line."""
        return tuple(self._line[start:end])

    def ask(self, room: int) -> Asked | None:
        """What the draft model is to guess now; None if nothing.

        Args:
            room: Most tokens that the line may hold.
        """
        if self._model is None or self._asked is not None or not self._line:
            return None
        if not (self._prefers_model() or (self._dry and self.uses_model)):
            return None
        pace = self._pace
        burst = self._rows_max
        if pace.draft_s:
            burst = max(1, min(burst, int(BURST_SHARE * pace.loop_s / pace.draft_s)))
        most = min(self._depth_max - len(self._line) + 1, room - len(self._line), burst)
        n = self._worthy(self._model, [0] * most, pace.draft_s)
        if n <= 0:
            return None
        hints = self._hints(n - 1)
        self._asked = Asked(tuple(self._line), tuple(h.token for h in hints), n)
        self._hinted = hints
        self._since = []
        return self._asked

    def drafted(self, guesses: Sequence[int]) -> None:
        """The draft model's guesses at what was asked for last; none where it failed.

        What was sampled meanwhile may have proved them wrong, or the first of them right.
        """
        asked, self._asked = self._asked, None
        if asked is None or self._model is None:
            return
        for hint, guess in zip(self._hinted, guesses, strict=False):
            # What the model would have said is likely to be said.
            self._worth.note(hint.grade, right=hint.token == guess)
            if hint.token != guess:
                break
        foretold = [*asked.line[1:], *guesses]
        n, ahead = len(self._since), self._line[1:]
        if foretold[:n] != self._since or foretold[n : n + len(ahead)] != ahead:
            return
        more = foretold[n + len(ahead) :]
        self._line += more
        self._by += [(self._model, 0)] * len(more)

    def forgo_model(self) -> None:
        """The draft model cannot guess for this session: go on with the lookup."""
        self._model = None

    def _prefers_model(self) -> bool:
        """Whether the draft model promises more than the lookup."""
        if self._model is None or not self.uses_model:
            return False
        pace = self._pace
        return self._model.token_s(pace, pace.draft_s) < self._worth.token_s(pace)

    def _guess(self, room: int, start: int) -> None:
        """Put guesses of the lookup behind the line, if more are worth it."""
        if self._dry or len(self._line) > start + 1 or self._prefers_model():
            return
        n = min(self._depth_max - len(self._line) + 1, room - len(self._line))
        n = min(n, self._rows_max - (len(self._line) - start))
        if n <= 0:
            return
        found = self._drafter.propose(self._line[1:], n)
        del found[self._worthy(self._worth, [guess.grade for guess in found]) :]
        self._dry = len(found) < n
        if start <= 1:
            self._hot = bool(found)
        if start == 1 and not self._pace.is_far:
            # Behind a token that went alone they would cost a step of their own.
            self._dry = True
            return
        self._line += [guess.token for guess in found]
        self._by += [(self._worth, guess.grade) for guess in found]

    def _worthy(self, by: Worth, grades: Sequence[int], guess_s: float = 0.0) -> int:
        """How many guesses of a drafter pay behind the line, one after the other."""
        chance, tokens = 1.0, 1.0
        for other, grade in self._by[1:]:
            chance *= other.chance(grade)
            tokens += chance
        for at, grade in enumerate(grades):
            chance *= by.chance(grade)
            if not self._pace.pays(chance, tokens, guess_s):
                return at
            tokens += chance
        return len(grades)

    def _hints(self, n: int) -> list[Guess]:
        """Up to `n` guesses of the lookup that are likely to be right."""
        found, chance = self._drafter.propose(self._line[1:], n), 1.0
        for at, guess in enumerate(found):
            chance *= self._worth.chance(guess.grade)
            if chance < HINT_CHANCE:
                return found[:at]
        return found
