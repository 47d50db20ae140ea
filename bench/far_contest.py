"""The rounds over distance: each side in turn, at each delay, with the same prompts.

Who goes first changes from round to round, and nothing else runs meanwhile: peers stand
still, and a ring that is not asked computes nothing.
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from bench.far_measures import (
    CROWD,
    Rate,
    Side,
    answered,
    cached_tokens,
    first_token_s,
    one_stream,
    sixteen_streams,
    total,
)
from bench.far_prompts import KINDS, Deck, articles, chat
from bench.far_ring import LINKS, NONE, FarRing
from bench.llama_rpc import Peer
from bench.stream import stream_all
from bench.whole_process import WholeProcess

WARM_TOKENS = 8
CONVERSATION_ANSWER = 64
EQUAL_TOKENS, EQUAL_EACH = 32, 2
WHOLE_TOKENS = 48
PEER = "peer"


def talk(text: str) -> None:
    """Progress, for people."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Lengths:
    """In tokens: each answer, a lone one and one of sixteen, and prompts.

    `prompt_max`: no more of a prompt than its last ones; `first_token`: the prompt whose
    first token is waited for; `conversation`: the first turn of the conversation of two.
    """

    one: int = 36
    sixteen: int = 20
    prompt_max: int = 2000
    first_token: int = 1024
    conversation: int = 2000


@dataclass
class Found:
    """What rounds gave; by delay in ms, and by side where there are several."""

    one: dict[tuple[int, str], list[dict[str, Rate]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    sixteen: dict[tuple[int, str], list[Rate]] = field(default_factory=lambda: defaultdict(list))
    whole_s: list[float] = field(default_factory=list)
    first_token_s: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    turns_s: list[tuple[float, float, int]] = field(default_factory=list)
    """Time to the first token of a conversation's two turns, and what the second knew."""
    equal: dict[bool, float] = field(default_factory=dict)


class Contest:
    """All sides, and what was found so far.

    Args:
        whole: The whole model in one process, which also knows the tokens.
        rings: Ours, by the way that they decode, the last of which is the best there is; of
            each one for no delay (False) and one for some (True), and of these one for a lone
            stream (False) and one for sixteen (True), maybe the same.
        peers: For each delay of none (False) or some (True), one for a lone stream and one
            for sixteen; empty without a peer.
        lengths: Tokens of the answers.
    """

    def __init__(
        self,
        whole: WholeProcess,
        rings: Mapping[str, Mapping[tuple[bool, bool], FarRing]],
        peers: Mapping[bool, tuple[Peer, Peer]],
        lengths: Lengths,
    ) -> None:
        self._whole = whole
        self._rings = rings
        self._peers = peers
        self._lengths = lengths
        self._deck = Deck.fresh()
        self._asked = 0
        self.best = list(rings)[-1]
        self.found = Found()

    def tokens(self, text: str) -> list[int]:
        """Token ids of a prompt."""
        return self._whole.tokens(text, special=True)[-self._lengths.prompt_max :]

    async def round(self, number: int, delays_ms: Sequence[int]) -> None:
        """All measurements once."""
        for delay_ms in delays_ms:
            ends = (delays_ms[0], delays_ms[-1])
            await self._at(number, delay_ms, all_modes=delay_ms in ends)
            if delay_ms in ends:
                await self._first_tokens(delay_ms)
        if not number and len(self._rings) > 1:
            for exact in (True, False):
                self.found.equal[exact] = await self._equal(delays_ms[-1], exact=exact)
        # Once will do where nothing is reused: they are as long as prompts get.
        if not number or self.found.turns_s[-1][2]:
            await self._two_turns(delays_ms[0])

    async def _at(self, number: int, delay_ms: int, *, all_modes: bool) -> None:
        one = {kind: self.tokens(self._deck.deal(kind, 1)[0]) for kind in KINDS}
        crowd = {k: [self.tokens(p) for p in self._deck.deal(k, n)] for k, n in CROWD.items()}
        run = self._whole.greedy([one["chat"]], WHOLE_TOKENS, exact=False, stop=False)
        self.found.whole_s.append(run.decode_s / run.steps)
        turns: list[Callable[[], Awaitable[None]]] = []
        for mode in self._rings:
            if mode != NONE or all_modes or len(self._rings) == 1:
                turns.append(partial(self._ours, mode, delay_ms, one, crowd))
        if self._peers:
            turns.append(partial(self._theirs, delay_ms, one, crowd))
        for turn in reversed(turns) if number % 2 else turns:
            await turn()

    async def _ours(
        self,
        mode: str,
        delay_ms: int,
        one: Mapping[str, list[int]],
        crowd: Mapping[str, list[list[int]]],
    ) -> None:
        side = await self._ring(mode, delay_ms)
        await self._warm(side)
        await self._measure_one(side, mode, delay_ms, one)
        if mode == self.best:
            many = await self._ring(mode, delay_ms, many=True)
            await self._warm(many)
            await self._measure_sixteen(many, mode, delay_ms, crowd)

    async def _theirs(
        self,
        delay_ms: int,
        one: Mapping[str, list[int]],
        crowd: Mapping[str, list[list[int]]],
    ) -> None:
        lone, many = self._peers[delay_ms > 0]
        if delay_ms:
            for peer in {id(p): p for p in (lone, many)}.values():
                await peer.set_delay(delay_ms / 1000)
        with lone.awake() as endpoint:
            side = Side(endpoint, PEER, {"cache_prompt": False})
            await self._warm(side)
            await self._measure_one(side, PEER, delay_ms, one)
        with many.awake() as endpoint:
            side = Side(endpoint, PEER, {"cache_prompt": False})
            await self._warm(side)
            await self._measure_sixteen(side, PEER, delay_ms, crowd)

    async def _ring(self, mode: str, delay_ms: int, *, many: bool = False) -> Side:
        """The ring that decodes so, with links that take so long."""
        ring = self._rings[mode][delay_ms > 0, many]
        await ring.set_delay(delay_ms / 1000)
        return side_of(ring)

    async def _warm(self, side: Side) -> None:
        """Caches, and what a side learns of its links."""
        await stream_all(side.endpoint, "/v1/completions", [side.ask([1, 2, 3, 4], WARM_TOKENS)])

    async def _measure_one(
        self, side: Side, name: str, delay_ms: int, one: Mapping[str, list[int]]
    ) -> None:
        rates = await one_stream(side, one, self._lengths.one, LINKS * delay_ms / 1000)
        self.found.one[delay_ms, name].append(rates)
        shown = ", ".join(f"{kind} {rate.per_s:.1f}" for kind, rate in rates.items())
        talk(f"{delay_ms} ms, one stream, {name}: {total(rates.values()).per_s:.1f} ({shown})")

    async def _measure_sixteen(
        self, side: Side, name: str, delay_ms: int, crowd: Mapping[str, list[list[int]]]
    ) -> None:
        rate = await sixteen_streams(side, crowd, self._lengths.sixteen)
        self.found.sixteen[delay_ms, name].append(rate)
        talk(f"{delay_ms} ms, sixteen streams, {name}: {rate.per_s:.1f} ({rate.tokens} tokens)")

    def _long(self, n_tokens: int) -> str:
        """A text of about so many tokens, another one each time."""
        self._asked += 1
        known = articles()
        turned = known[self._asked % len(known) :] + known[: self._asked % len(known)]
        text = f"{self._asked}. " + "\n\n".join(turned * (1 + n_tokens // 1000))
        size = len(self._whole.tokens(text))
        assert size >= n_tokens, "the texts are too short"
        return text[: len(text) * n_tokens // size]

    async def _first_tokens(self, delay_ms: int) -> None:
        size = self._lengths.first_token
        prompt = self._whole.tokens(self._long(2 * size))[:size]
        side = await self._ring(self.best, delay_ms)
        self.found.first_token_s[delay_ms].append(await first_token_s(side, prompt))
        talk(f"{delay_ms} ms, first token: {self.found.first_token_s[delay_ms][-1]:.2f} s")

    async def _two_turns(self, delay_ms: int) -> None:
        side = await self._ring(self.best, delay_ms)
        question = "Read these texts and say which you like best.\n\n" + self._long(
            self._lengths.conversation
        )
        first, text = await answered(side, self._asked_as(question), CONVERSATION_ANSWER)
        again = self._asked_as(question, text, "And which is the shortest?")
        second_s, known = await cached_tokens(side, again)
        self.found.turns_s.append((first.first_s, second_s, known))
        talk(f"turns of a conversation: {first.first_s:.2f} s, {second_s:.2f} s ({known} known)")

    def _asked_as(self, *turns: str) -> list[int]:
        return self._whole.tokens(chat(*turns), special=True)

    async def _equal(self, delay_ms: int, *, exact: bool) -> float:
        """The share of prompts whose greedy tokens are the same with guesses as without."""
        prompts = [self.tokens(p) for kind in KINDS for p in self._deck.deal(kind, EQUAL_EACH)]
        texts = []
        for mode in (NONE, self.best):
            side = await self._ring(mode, delay_ms)
            asked = [side.ask(p, EQUAL_TOKENS, exact=exact, logprobs=0) for p in prompts]
            answers = await stream_all(side.endpoint, "/v1/completions", asked)
            texts.append([answer.tokens() for answer in answers])
        return float(statistics.mean(a == b for a, b in zip(*texts, strict=True)))


def side_of(ring: FarRing) -> Side:
    """A ring as it is asked."""
    return Side(ring.endpoint, ring.model)
