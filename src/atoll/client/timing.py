"""One streamed answer in numbers: which of its bytes came when, and how many tokens they are.

Knows no connection and no clock: `measure` notes bytes with their times, and
nothing is decoded before the answer is complete, since the client may share
its cores with what it measures.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import msgspec

from atoll.client.api import ApiFault
from atoll.client.replies import CompletionChunk, Usage
from atoll.client.sse import events, lines_of

Piece = tuple[float, bytes]
"""When it came, seconds of any clock, and what."""


@dataclass(frozen=True, slots=True)
class Timed:
    """One answer. Times are seconds of one clock; `arrivals_s` is never empty.

    `tokens` is how many the answer has. There can be fewer arrivals: a token
    that ends inside a character comes with the next one.
    """

    asked_s: float
    arrivals_s: tuple[float, ...]
    tokens: int

    @property
    def first_s(self) -> float:
        """From the request to the first token, seconds."""
        return self.arrivals_s[0] - self.asked_s

    @property
    def gaps_s(self) -> list[float]:
        """Between one arrival and the next, seconds; one fewer than arrivals."""
        return [b - a for a, b in zip(self.arrivals_s, self.arrivals_s[1:], strict=False)]

    def tokens_between(self, start_s: float, end_s: float) -> float:
        """Tokens that came after `start_s` and not after `end_s`.

        All but the first token share the arrivals after the first equally.
        """
        later = self.arrivals_s[1:]
        if not later:
            return 0.0
        return sum(start_s < at_s <= end_s for at_s in later) * (self.tokens - 1) / len(later)


@dataclass(slots=True)
class _Told:
    """What the events of one answer told so far."""

    arrivals_s: list[float]
    ended_s: float | None = None
    finish: str | None = None
    usage: Usage | None = None
    done: bool = False

    def take(self, at_s: float, data: str) -> None:
        if data == "[DONE]":
            self.done = True
            return
        try:
            chunk = msgspec.json.decode(data, type=CompletionChunk)
        except (msgspec.MsgspecError, UnicodeEncodeError) as error:
            raise ApiFault(
                f"the server sent an event that is no part of a completion: {error}",
                hint="check that the address is that of an OpenAI-compatible API",
            ) from error
        if chunk.error is not None:
            raise ApiFault(f"the answer broke off: {chunk.error.message}")
        self.usage = chunk.usage or self.usage
        for choice in chunk.choices[:1]:
            if choice.text:
                self.arrivals_s.append(at_s)
            if choice.finish_reason:
                self.finish, self.ended_s = choice.finish_reason, at_s


async def read_timed(
    asked_s: float, pieces: Sequence[Piece], *, prompt_tokens: int, answer_tokens: int
) -> Timed:
    """The numbers of a complete answer.

    Args:
        asked_s: When the request was sent.
        pieces: The answer's body as it came.
        prompt_tokens: What was sent.
        answer_tokens: What was asked for.

    Raises:
        ApiFault: It ended with an error or without an end, or the server
            counts other numbers of tokens.
        LinkFault: An event is too long.
    """
    now_s = asked_s

    async def bytes_of() -> AsyncIterator[bytes]:
        nonlocal now_s
        for at_s, piece in pieces:
            now_s = at_s
            yield piece

    told = _Told([])
    async for event in events(lines_of(bytes_of())):
        told.take(now_s, event.data)
        if told.done:
            break
    if not told.done:
        raise ApiFault("the answer broke off: the server closed the connection", hint="try again")
    arrivals_s, ended_s = told.arrivals_s, told.ended_s
    # A last token without text, such as the end of the text, shows in the end alone.
    few = len(arrivals_s) < answer_tokens
    if few and ended_s is not None and (not arrivals_s or ended_s > arrivals_s[-1]):
        arrivals_s.append(ended_s)
    if not arrivals_s:
        raise ApiFault("the answer holds no token", hint="does the server generate text?")
    _check_counts(told, prompt_tokens, answer_tokens)
    return Timed(asked_s, tuple(arrivals_s), answer_tokens)


def _check_counts(told: _Told, prompt_tokens: int, answer_tokens: int) -> None:
    """What was measured has to be what the row says.

    A token more of the prompt is allowed: some servers put one before it that
    begins a text.
    """
    if told.usage is not None:
        counted, generated = told.usage.prompt_tokens, told.usage.completion_tokens
    else:
        counted = prompt_tokens
        # Without a count the reason tells: all that was asked for, or less.
        generated = answer_tokens if told.finish == "length" else len(told.arrivals_s)
    if generated != answer_tokens:
        raise ApiFault(
            f"the answer has {generated} tokens in place of {answer_tokens}",
            hint="the server has to know the field ignore_eos, which goes on after the end of text",
        )
    if counted not in (prompt_tokens, prompt_tokens + 1):
        raise ApiFault(
            f"the server counts {counted} tokens in a prompt of {prompt_tokens}",
            hint="it has to take a prompt of token ids as it is",
        )
