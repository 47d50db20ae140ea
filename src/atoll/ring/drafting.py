"""Guesses at a session's next tokens, from what was said before.

`Lookup` finds where the last few tokens stood before and guesses what followed
there: texts that summarise or edit repeat what they were given (prompt lookup
decoding: Saxena, 2023; LLMA, arXiv:2304.04487). Where the session has nothing to go by
but a single token, `Phrases` of the group's recent sessions are asked. A guess costs
rows of compute; a wrong one costs nothing else, as tokens are sampled as if there
were none.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from atoll.domain.generation import GenerateRequest

GRAMS = (8, 4, 3, 2)
"""Lengths of the runs of tokens that are looked up, the longest first, and then single ones."""
LONGEST = GRAMS[0]
PHRASE_GRAMS = (3, 2, 1)
"""Lengths of the runs that are kept of recent sessions."""
RUNS_MAX = 30_000
"""Runs that are kept of a group: some 3 MB."""
GROUPS_MAX = 16
"""Groups whose phrases are kept; those are forgotten first that were not asked for longest."""

GRADES = (0.2, 0.35, 0.75, 0.8, 0.85, 0.85, 0.9, 0.93, 0.2, 0.2, 0.6)
"""Share of guesses that are right, by grade: those that rest on 1 to 8 tokens of the session,
then on 1 to 3 of recent sessions. Rounded, of some 1,500 guesses at what SmolLM2
answers to 32 questions of `bench/far_prompts.py`."""


class Guess(NamedTuple):
    """A token, and what the guess rests on: a place in `GRADES`."""

    token: int
    grade: int


class Drafter(Protocol):
    """Guesses the tokens of one session."""

    def accept(self, tokens: Sequence[int]) -> None:
        """These were sampled next."""
        ...

    def propose(self, after: Sequence[int], n: int) -> list[Guess]:
        """Up to `n` guesses at what follows the accepted tokens and then `after`."""
        ...


class Phrases:
    """What followed short runs of tokens in the answers of one group's recent sessions.

    Args:
        most: Runs that are kept; the oldest go first.
    """

    def __init__(self, most: int = RUNS_MAX) -> None:
        self._most = most
        # How often each token followed a run; and the one that did most often.
        self._followers: dict[tuple[int, ...], dict[int, int]] = {}
        self._likeliest: dict[tuple[int, ...], int] = {}

    def learn(self, run: Sequence[int], token: int) -> None:
        """`token` followed a run of tokens, and all ends of it."""
        for n in PHRASE_GRAMS:
            if len(run) < n:
                continue
            end = tuple(run[-n:])
            counts = self._followers.setdefault(end, {})
            counts[token] = counts.get(token, 0) + 1
            if counts[token] >= counts.get(self._likeliest.get(end, token), 0):
                self._likeliest[end] = token
        while len(self._followers) > self._most:
            oldest = next(iter(self._followers))
            del self._followers[oldest], self._likeliest[oldest]

    def follower(self, run: Sequence[int], n: int) -> int | None:
        """What followed the last `n` tokens of a run most often."""
        return self._likeliest.get(tuple(run[-n:])) if len(run) >= n else None


class Lookup:
    """Guesses what followed the last time that the last tokens stood in the session.

    Args:
        prompt: The prompt's tokens.
        phrases: Of the group's recent sessions; they learn what is said here.
    """

    def __init__(self, prompt: Sequence[int], phrases: Phrases | None = None) -> None:
        self._tokens: list[int] = []
        # Where the run of tokens ended last, for each length.
        self._ends: dict[tuple[int, ...], int] = {}
        self._phrases = phrases or Phrases()
        self._enter(prompt)

    def accept(self, tokens: Sequence[int]) -> None:
        """These stand behind what is known."""
        for token in tokens:
            self._phrases.learn(self._tokens[-PHRASE_GRAMS[0] :], token)
            self._enter((token,))

    def propose(self, after: Sequence[int], n: int) -> list[Guess]:
        """What followed the last tokens where they stood before, or nothing."""
        found: list[Guess] = []
        text = [*self._tokens[-LONGEST:], *after]
        while len(found) < n and (guess := self._guess(text)) is not None:
            found.append(guess)
            text.append(guess.token)
        return found

    def _enter(self, tokens: Sequence[int]) -> None:
        known = self._tokens
        for token in tokens:
            # A run is entered once something follows it.
            for n in (*GRAMS, 1):
                if len(known) >= n:
                    self._ends[tuple(known[-n:])] = len(known)
            known.append(token)

    def _guess(self, text: Sequence[int]) -> Guess | None:
        """The longest run that stood here, then phrases, then the last token alone."""
        for n in GRAMS:
            if len(text) >= n and (at := self._ends.get(tuple(text[-n:]))) is not None:
                return Guess(self._tokens[at], self._alike(text, at, n) - 1)
        for n in PHRASE_GRAMS:
            if (token := self._phrases.follower(text, n)) is not None:
                return Guess(token, LONGEST + n - 1)
        at = self._ends.get(tuple(text[-1:]))
        return None if at is None else Guess(self._tokens[at], 0)

    def _alike(self, text: Sequence[int], at: int, n: int) -> int:
        """How many tokens before place `at`, of which `n` are known to, are the text's last."""
        known = self._tokens
        while n < min(LONGEST, at, len(text)) and known[at - 1 - n] == text[-1 - n]:
            n += 1
        return n


class Lookups:
    """Makes the drafter of each session; sessions of one group know each other's phrases."""

    def __init__(self) -> None:
        self._groups: OrderedDict[str, Phrases] = OrderedDict()

    def __call__(self, request: GenerateRequest) -> Lookup:
        """A session begins."""
        phrases = self._groups.setdefault(request.group, Phrases())
        self._groups.move_to_end(request.group)
        while len(self._groups) > GROUPS_MAX:
            self._groups.popitem(last=False)
        return Lookup(request.known, phrases)
