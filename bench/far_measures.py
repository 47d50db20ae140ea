"""What is measured of one side over distance, and the arithmetic of it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from atoll.client.endpoint import Endpoint
from bench.far_prompts import CHAT, EDIT, KINDS, SUMMARISE
from bench.stream import EVENT, Streamed, stream, stream_all

PATH = "/v1/completions"
CROWD: Mapping[str, int] = {CHAT: 6, SUMMARISE: 5, EDIT: 5}
"""Streams of each kind when sixteen run together."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of those that are measured; `more` is what its requests say besides."""

    endpoint: Endpoint
    model: str
    more: Mapping[str, Any] = field(default_factory=dict)

    def ask(self, prompt: Sequence[int], tokens: int, **more: Any) -> dict[str, Any]:
        """A greedy request for so many tokens."""
        return {
            "model": self.model,
            "prompt": list(prompt),
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
            **self.more,
            **more,
        }


@dataclass(frozen=True, slots=True)
class Rate:
    """So many tokens in so many seconds; `bursts` is in how many pieces they came."""

    tokens: int
    seconds: float
    bursts: int = 0

    @property
    def per_s(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds


def total(rates: Iterable[Rate]) -> Rate:
    """All tokens and all seconds."""
    known = list(rates)
    return Rate(
        sum(rate.tokens for rate in known),
        sum(rate.seconds for rate in known),
        sum(rate.bursts for rate in known),
    )


def bursts(arrivals_s: Sequence[float], apart_s: float) -> int:
    """How many groups arrivals form that are at least so far apart."""
    gaps = itertools.pairwise(arrivals_s)
    return 1 + sum(after - before >= apart_s for before, after in gaps)


def decode_rate(answer: Streamed, tokens: int, apart_s: float) -> Rate:
    """From the first token to the last; an event may bring several tokens, or none."""
    arrivals = answer.arrivals_s
    return Rate(tokens - 1, arrivals[-1] - arrivals[0], bursts(arrivals, apart_s) - 1)


async def one_stream(
    side: Side, prompts: Mapping[str, Sequence[int]], tokens: int, loop_s: float
) -> dict[str, Rate]:
    """A prompt of each kind, one after the other, with equal tokens.

    Tokens less than half a loop apart count as of the same one.
    """
    found = {}
    for kind, prompt in prompts.items():
        answer = await stream(side.endpoint, PATH, side.ask(prompt, tokens))
        found[kind] = decode_rate(answer, tokens, max(loop_s / 2, 0.002))
    return found


def crowd_tokens(tokens: int) -> dict[str, int]:
    """Tokens of each stream, so that each kind has as many: `tokens` of those of the most."""
    most = max(CROWD.values())
    return {kind: tokens * most // CROWD[kind] for kind in KINDS}


async def sixteen_streams(
    side: Side, prompts: Mapping[str, Sequence[Sequence[int]]], tokens: int
) -> Rate:
    """Sixteen together, with equal tokens of each kind: from when all have their first token.

    Each side has computed and kept the prompts before, so that all begin to decode at once;
    or who answers some while it reads others' prompts would be measured with fewer streams.
    """
    each = crowd_tokens(tokens)
    kept = {key: True for key in side.more if key == "cache_prompt"}
    first = [side.ask(prompt, 1, **kept) for kind in KINDS for prompt in prompts[kind]]
    await stream_all(side.endpoint, PATH, first)
    asked = [side.ask(prompt, each[kind], **kept) for kind in KINDS for prompt in prompts[kind]]
    answers = await stream_all(side.endpoint, PATH, asked)
    return crowd_rate(answers, [request["max_tokens"] for request in asked])


def crowd_rate(answers: Sequence[Streamed], tokens: Sequence[int]) -> Rate:
    """Tokens after the last stream's first one, until the last stream ends."""
    start = max(answer.arrivals_s[0] for answer in answers)
    end = max(answer.arrivals_s[-1] for answer in answers)
    inside = 0.0
    for answer, n in zip(answers, tokens, strict=True):
        later = sum(at > start for at in answer.arrivals_s)
        # Of events, as an event may bring several tokens; the last one brings none.
        inside += min(n - 1, n * later / len(answer.arrivals_s))
    return Rate(round(inside), end - start)


async def first_token_s(side: Side, prompt: Sequence[int]) -> float:
    """Time to the first token."""
    return (await stream(side.endpoint, PATH, side.ask(prompt, 1))).first_s


async def answered(side: Side, prompt: Sequence[int], tokens: int) -> tuple[Streamed, str]:
    """An answer, and its text."""
    found = await stream(side.endpoint, PATH, side.ask(prompt, tokens))
    return found, "".join(choice.get("text", "") for choice in _choices(found))


async def cached_tokens(side: Side, prompt: Sequence[int]) -> tuple[float, int]:
    """Time to the first token, and how many of the prompt's were known before."""
    asked = side.ask(prompt, 1, stream_options={"include_usage": True})
    found = await stream(side.endpoint, PATH, asked)
    known = 0
    for event in _events(found):
        details = (event.get("usage") or {}).get("prompt_tokens_details") or {}
        known = max(known, details.get("cached_tokens") or 0)
    return found.first_s, known


def _events(answer: Streamed) -> Iterable[dict[str, Any]]:
    for line in answer.body.split(b"\n"):
        if line.startswith(EVENT):
            yield json.loads(line[len(b"data: ") :])


def _choices(answer: Streamed) -> Iterable[dict[str, Any]]:
    for event in _events(answer):
        yield from event.get("choices") or ()


@dataclass(frozen=True, slots=True)
class Limit:
    """Tokens a second that no ring can pass: by compute alone, and with the loop as well.

    Args:
        compute_s: Time per token of the whole model in one process.
        loop_s: Time that light, so to say, takes round the ring.
        accepted: Tokens that one loop brings.
    """

    compute_s: float
    loop_s: float
    accepted: float

    @property
    def compute_per_s(self) -> float:
        """By compute alone."""
        return 1 / self.compute_s

    @property
    def loop_per_s(self) -> float:
        """By compute and the loop."""
        return 1 / (self.compute_s + self.loop_s / self.accepted)


def far_share(far: float, near: float, *, streams: int, loop_s: float, lap_s: float) -> float:
    """What so many streams do far away ÷ the lesser of what they do nearby and what loops allow."""
    return far / min(near, streams / (loop_s + lap_s))
