"""Text of an answer, put together from the bytes of its tokens.

A token may end inside a UTF-8 character and a stop string may begin in one
token and end in another. What comes out depends only on the bytes, never on
where the tokens cut them.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

_decoder = codecs.getincrementaldecoder("utf-8")


class StopMatcher:
    """Finds the first stop string to be completed, and holds back what may become one.

    One Knuth-Morris-Pratt automaton for each stop string: its state is the
    length of the longest prefix of the string that the text ends with, so the
    longest state is exactly the number of characters to hold back. Where two
    strings are completed by the same character, the longer one cuts.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        """Stop strings must not be empty."""
        assert all(stops), "an empty stop string would match everywhere"
        self._stops = tuple(stops)
        self._failures = tuple(_failures(stop) for stop in stops)
        self._states = [0] * len(stops)
        self._held = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """Take more text; return what can be shown. Nothing more once `stopped`."""
        if self.stopped:
            return ""
        if not self._stops:
            return text
        n_held = len(self._held)
        seen = self._held + text
        for end, character in enumerate(text, start=n_held + 1):
            completed = 0
            for index, stop in enumerate(self._stops):
                state = _advance(stop, self._failures[index], self._states[index], character)
                self._states[index] = state
                if state == len(stop):
                    completed = max(completed, state)
            if completed:
                self.stopped = True
                self._held = ""
                return seen[: end - completed]
        shown = len(seen) - max(self._states)
        self._held = seen[shown:]
        return seen[:shown]

    def flush(self) -> str:
        """Return what was held back: the text has ended without a stop string."""
        held, self._held = self._held, ""
        return held


class TextAssembler:
    """Bytes of tokens in, text that can be shown out.

    Invalid UTF-8 becomes U+FFFD. `decoded` counts the characters decoded so
    far, `shown` those that were returned.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._decoder = _decoder("replace")
        self._matcher = StopMatcher(stops)
        self.decoded = 0
        self.shown = 0

    @property
    def stopped(self) -> bool:
        """Whether a stop string was met; the text ends before it."""
        return self._matcher.stopped

    def feed(self, piece: bytes) -> str:
        """Take the bytes of one token; return the text that can be shown now."""
        text = self._decoder.decode(piece)
        self.decoded += len(text)
        shown = self._matcher.feed(text)
        self.shown += len(shown)
        return shown

    def finish(self) -> str:
        """Return the rest: an unfinished character and what was held back."""
        text = self._decoder.decode(b"", final=True)
        self.decoded += len(text)
        shown = self._matcher.feed(text) + self._matcher.flush()
        self.shown += len(shown)
        return shown


def _failures(pattern: str) -> tuple[int, ...]:
    """For each prefix of `pattern`, the length of its longest proper border."""
    failures = [0] * len(pattern)
    border = 0
    for position in range(1, len(pattern)):
        while border and pattern[position] != pattern[border]:
            border = failures[border - 1]
        if pattern[position] == pattern[border]:
            border += 1
        failures[position] = border
    return tuple(failures)


def _advance(pattern: str, failures: tuple[int, ...], state: int, character: str) -> int:
    """The automaton's next state; a completed pattern never gets here."""
    while state and pattern[state] != character:
        state = failures[state - 1]
    return state + 1 if pattern[state] == character else 0
