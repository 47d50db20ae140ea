"""A ring and a tokeniser for tests: a language model made of hashes.

It keeps the promises that the HTTP side relies on: what is sampled depends
only on prompt and seed, log-probabilities belong to one distribution, the
end-of-generation token has no bytes. Orders in the prompt make it fail,
stall or flood.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from atoll.api.backend import ChatTurn, Demand, Health, ModelCard, TemplateValue
from atoll.domain.errors import BadRequest
from atoll.domain.generation import GenerateRequest, Sampled, TopLogprob

MODEL = "hash/of-everything"
CONTEXT = 4096
N_VOCAB = 1000
EOS = 0
NO_END_BEFORE = 10
"""Drawn answers have so many tokens at least: a test that stops one before need not be lucky."""

# Some pieces end inside a character, so that assembly is always at work.
WORDS = [" sea", " reef", " gull", " ebbs", "é"[:1], ".", "\n", " a", " the", " 潮"]
PIECES = [word.encode() for word in WORDS] + ["€".encode()[:2], "€".encode()[2:]]

Sampler = Callable[[GenerateRequest], AsyncGenerator[Sampled, None]]


def piece_of(token: int) -> bytes:
    return b"" if token == EOS else PIECES[token % len(PIECES)]


def draw(request: GenerateRequest, position: int) -> int:
    seed = 0 if request.sampling.temperature == 0 else request.sampling.seed
    text = f"{request.prompt}/{seed}/{position}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "big") % N_VOCAB


def candidates(token: int, n: int) -> tuple[float, tuple[TopLogprob, ...]]:
    """The drawn token is the likeliest; the k-th after it has half the chance each time."""
    tops = tuple(
        TopLogprob((token + k) % N_VOCAB, piece_of((token + k) % N_VOCAB), math.log(0.5) * (k + 1))
        for k in range(n)
    )
    return math.log(0.5), tops


async def sample_hashes(request: GenerateRequest) -> AsyncGenerator[Sampled, None]:
    for position in range(len(request.sampled), request.max_tokens):
        await asyncio.sleep(0)
        token = draw(request, position)
        ends = token % 97 == 0 and position >= NO_END_BEFORE and not request.ignore_eos
        if ends:
            token = EOS
        logprob: float | None = None
        top: tuple[TopLogprob, ...] = ()
        if request.sampling.logprobs is not None:
            logprob, top = candidates(token, request.sampling.logprobs)
        last = position + 1 == request.max_tokens
        finish = "stop" if ends else "length" if last else None
        yield Sampled(token, piece_of(token), finish, logprob, top)  # type: ignore[arg-type]
        if finish:
            return


def say(*pieces: str | bytes, finish: str = "stop") -> Sampler:
    """A sampler that says these pieces, then ends."""

    async def sample(request: GenerateRequest) -> AsyncGenerator[Sampled, None]:
        for index, piece in enumerate(pieces):
            if index < len(request.sampled):
                continue
            await asyncio.sleep(0)
            data = piece.encode() if isinstance(piece, str) else piece
            yield Sampled(index + 1, data, None, -0.5, ())
        yield Sampled(EOS, b"", finish, -0.5, ())  # type: ignore[arg-type]

    return sample


def fail(error: Exception, *before: str) -> Sampler:
    """A sampler that says something and then raises."""

    async def sample(request: GenerateRequest) -> AsyncGenerator[Sampled, None]:
        for index, piece in enumerate(before):
            yield Sampled(index + 1, piece.encode())
        await asyncio.sleep(0)
        raise error

    return sample


async def flood(request: GenerateRequest) -> AsyncGenerator[Sampled, None]:
    """Endless large pieces, as fast as they are taken."""
    while True:
        await asyncio.sleep(0)
        yield Sampled(1, b"x" * 65536)


@dataclass
class ScriptedBackend:
    """`sampler` computes; `open` and `closed` count the generators."""

    sampler: Sampler = sample_hashes
    state: Health = field(default_factory=lambda: Health(ready=True))
    requests: list[GenerateRequest] = field(default_factory=list)
    demands: list[Demand] = field(default_factory=list)
    objection: Exception | None = None
    open: int = 0
    closed: int = 0
    yielded: int = 0
    all_closed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def card(self) -> ModelCard:
        return ModelCard(MODEL, 1_700_000_000, CONTEXT, N_VOCAB)

    def health(self) -> Health:
        return self.state

    def check(self, demand: Demand) -> None:
        self.demands.append(demand)
        if self.objection is not None:
            raise self.objection

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Sampled, None]:
        self.requests.append(request)
        self.open += 1
        self.all_closed.clear()
        samples = self.sampler(request)
        try:
            async for sampled in samples:
                self.yielded += 1
                yield sampled
        finally:
            await samples.aclose()
            self.open -= 1
            self.closed += 1
            if not self.open:
                self.all_closed.set()


@dataclass
class ScriptedText:
    """One token for each byte; `seen` are the chats that were rendered."""

    seen: list[tuple[Sequence[ChatTurn], Mapping[str, TemplateValue]]] = field(default_factory=list)

    async def chat_tokens(
        self, messages: Sequence[ChatTurn], *, extra: Mapping[str, TemplateValue]
    ) -> tuple[int, ...]:
        self.seen.append((messages, extra))
        if any(turn.content == "refuse" for turn in messages):
            raise BadRequest("the template refuses these messages", param="messages")
        return await self.tokens("".join(f"{turn.role}:{turn.content};" for turn in messages))

    async def tokens(self, text: str) -> tuple[int, ...]:
        await asyncio.sleep(0)
        return tuple(byte + 1 for byte in text.encode())
