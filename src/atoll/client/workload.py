"""What a measurement asks a server for: its rows, their sizes, and prompts nobody asked before.

Knows no connection and no clock; `measure` asks what is decided here.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from atoll.domain.errors import BadRequest

TOKENS_MAX = 1 << 20
"""Most tokens of a prompt, an answer or a depth; a request of more would exceed a gateway's
4 MiB."""
STREAMS_MAX = 256
ROUNDS_MAX = 1000

TOKEN_IDS = range(1000, 4000)
"""Where prompts take their tokens from: text in every vocabulary that we know of. Below lie
control tokens (Mistral's Tekken reserves the first 1000 ids), above may lie nothing (small
models have vocabularies of 4096)."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What one row of the result measures. "pp" reads a prompt, "tg" generates an answer.

    `depth` is how many tokens the context holds before the first one counts.
    """

    kind: Literal["pp", "tg"]
    tokens: int
    depth: int = 0
    streams: int = 1

    @property
    def name(self) -> str:
        """As llama-bench writes it, with the number of streams behind where there are several.

        Source: llama.cpp, tools/llama-bench/README.md, "Different prefilled context".
        """
        depth = f" @ d{self.depth}" if self.depth else ""
        return f"{self.kind}{self.tokens}{depth}{f' x{self.streams}' if self.streams > 1 else ''}"

    @property
    def prompt_tokens(self) -> int:
        """Tokens of each prompt; an answer needs at least one to go on from."""
        return self.tokens if self.kind == "pp" else max(self.depth, 1)

    @property
    def answer_tokens(self) -> int:
        """Tokens of each answer.

        The first one ends the reading of the prompt; n steps of generation
        then give n more.
        """
        return 1 if self.kind == "pp" else self.tokens + 1

    @property
    def context_tokens(self) -> int:
        """What each stream takes of the context."""
        return self.prompt_tokens + self.answer_tokens


@dataclass(frozen=True, slots=True)
class Room:
    """What a server has: tokens of a context, and answers at once; None where it does not say."""

    context: int | None = None
    streams: int | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """What is asked for. `depths` and `streams` None: the defaults, as far as they fit.

    Raises:
        BadRequest: A number is out of range, or there is nothing to do.
    """

    prompt: int = 512
    generate: int = 128
    depths: tuple[int, ...] | None = None
    streams: tuple[int, ...] | None = None
    rounds: int = 3

    def __post_init__(self) -> None:
        _check("prompt", (self.prompt,), 0, TOKENS_MAX)
        _check("generate", (self.generate,), 0, TOKENS_MAX)
        _check("depths", self.depths, 0, TOKENS_MAX)
        _check("streams", self.streams, 1, STREAMS_MAX)
        _check("rounds", (self.rounds,), 1, ROUNDS_MAX)
        if not self.prompt and not self.generate:
            raise BadRequest(
                "there is nothing to measure: both the prompt and the answer have no tokens",
                hint="give --prompt, --generate or both",
            )

    def trials(self, room: Room) -> tuple[Trial, ...]:
        """The rows, in the order of the table.

        Raises:
            BadRequest: One asks for more than the server has; the hint says what fits.
        """
        return tuple(self._trials(room))

    def _trials(self, room: Room) -> Iterator[Trial]:
        depths = self._depths(room)
        for streams in self._streams(room):
            if self.prompt:
                yield self._fitting(Trial("pp", self.prompt, 0, streams), room)
            if self.generate:
                for depth in depths:
                    yield self._fitting(Trial("tg", self.generate, depth, streams), room)

    def _depths(self, room: Room) -> tuple[int, ...]:
        if self.depths is not None:
            return tuple(dict.fromkeys(self.depths))
        deep = Trial("tg", self.generate, DEPTH_DEFAULT)
        fits = room.context is None or deep.context_tokens <= room.context
        return (0, DEPTH_DEFAULT) if fits else (0,)

    def _streams(self, room: Room) -> tuple[int, ...]:
        places = room.streams
        if self.streams is None:
            most = STREAMS_DEFAULT if places is None else max(1, min(STREAMS_DEFAULT, places))
            return tuple(dict.fromkeys((1, most)))
        asked = max(self.streams)
        if places is not None and asked > places:
            raise BadRequest(
                f"{asked} streams are more than the {places} answers that the ring gives at once",
                hint=f"ask for --streams up to {places}, or serve with a larger --streams",
            )
        return tuple(dict.fromkeys(self.streams))

    def _fitting(self, trial: Trial, room: Room) -> Trial:
        if room.context is None or trial.context_tokens <= room.context:
            return trial
        rest = room.context - trial.context_tokens + trial.tokens
        if trial.kind == "pp":
            fits = f"--prompt up to {rest} fits"
        elif (depth := room.context - trial.answer_tokens) >= 1:
            fits = f"with --generate {trial.tokens} depths up to {depth} fit"
        else:
            fits = f"--generate up to {rest} fits"
        raise BadRequest(
            f"{trial.name} takes {trial.context_tokens} tokens, but the model's context is"
            f" {room.context}",
            hint=f"{fits}; 'atoll serve --context' makes room for more",
        )


DEPTH_DEFAULT = 512
STREAMS_DEFAULT = 4


def _check(name: str, numbers: tuple[int, ...] | None, low: int, high: int) -> None:
    if numbers is None:
        return
    if not numbers:
        raise BadRequest(f"--{name} names no number", hint=f"for example --{name} {low + 1}")
    for number in numbers:
        if not low <= number <= high:
            raise BadRequest(
                f"--{name} {number} is out of range", hint=f"it goes from {low} to {high}"
            )


def numbers_of(text: str) -> tuple[int, ...]:
    """Numbers with commas between them.

    Raises:
        ValueError: It is something else.
    """
    found = tuple(part.strip() for part in text.split(","))
    if not all(part.isascii() and part.isdecimal() and len(part) <= 9 for part in found):
        raise ValueError(f"{text!r} is not numbers with commas between them, such as 0,512")
    return tuple(int(part) for part in found)


def draw_prompt(
    n_tokens: int, *, below: Callable[[int], int] = secrets.randbelow
) -> tuple[int, ...]:
    """Token ids that no cache has seen: drawn anew for each request.

    Args:
        n_tokens: How many.
        below: Draws a number from 0 to below its argument.
    """
    return tuple(TOKEN_IDS.start + below(len(TOKEN_IDS)) for _ in range(n_tokens))
