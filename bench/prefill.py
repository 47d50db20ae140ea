"""A long prompt comes while others are answered: how long they wait, and how long it takes.

Two rings of the demo model run at the same time and take turns: one whose prompts take
no heed of others (`--chunk-ms 0`), and one with the defaults. In each round four streams
decode; once all have some tokens a prompt of 2,000 tokens comes. Told are the longest gap
between two tokens of any of the four while it enters, the time to its first token, and
the same time where nobody else is there; medians over the rounds, and ratios of the
second ring to the first.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from atoll.client.endpoint import Endpoint
from atoll.demo.local_ring import LocalRingOptions
from atoll.engine.threads import usable_cores
from atoll.engine.whole import WholeModel
from atoll.store.layout import FoundModel, Store, default_home
from atoll.store.pull import pull
from bench.local import DEMO_SOURCE, NODES, PATH, open_ring, talk
from bench.prompts import LONG, SHORT
from bench.stream import Streamed, stream

OTHERS = 4
PROMPT, CONTEXT = 2000, 4096
TOKENS_BEFORE = 12
"""Tokens of each of the others before the prompt comes."""
TOKENS_MAX = 1500
POLL_S = 0.01
HEEDLESS, HEEDFUL = "takes no heed", "small chunks"
RINGS = {HEEDLESS: ("--chunk-ms", "0"), HEEDFUL: ()}
"""Options of the rings that are compared."""


@dataclass(frozen=True, slots=True)
class Beside:
    """Seconds: the others' longest and middle gap while a prompt entered, and its first token."""

    gap_s: float
    gap_median_s: float
    first_s: float
    alone_s: float


def gaps(arrivals_s: list[float], start_s: float, end_s: float) -> list[float]:
    """Gaps between tokens of which a part lies between two times.

    The one that has not ended counts as far as it goes.
    """
    shown = [*(t for t in arrivals_s if t < end_s), end_s]
    return [after - before for before, after in pairwise(shown) if after > start_s]


def ask(model: str, prompt: list[int], max_tokens: int) -> dict[str, Any]:
    """A greedy request."""
    asked = {"model": model, "prompt": prompt, "max_tokens": max_tokens, "ignore_eos": True}
    return asked | {"temperature": 0}


@asynccontextmanager
async def decoding(
    endpoint: Endpoint, model: str, prompts: list[list[int]]
) -> AsyncIterator[list[list[float]]]:
    """Streams that are answered inside the block; the times of their tokens, as they come."""
    times: list[list[float]] = [[] for _ in prompts]
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(stream(endpoint, PATH, ask(model, prompt, TOKENS_MAX), found))
            for prompt, found in zip(prompts, times, strict=True)
        ]
        # The streams' times come without a signal.
        while min(map(len, times)) < TOKENS_BEFORE:  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
        yield times
        for task in tasks:
            task.cancel()


async def one_round(
    endpoint: Endpoint, model: str, prompts: list[list[int]], long: list[int]
) -> Beside:
    """A prompt beside others, and then alone."""
    async with decoding(endpoint, model, prompts) as times:
        answer = await stream(endpoint, PATH, ask(model, long, 1))
        end_s = answer.arrivals_s[0]
        found = [gap for of in times for gap in gaps(of, answer.asked_s, end_s)]
    alone: Streamed = await stream(endpoint, PATH, ask(model, long, 1))
    return Beside(max(found), statistics.median(found), answer.first_s, alone.first_s)


def tokens_of(model: WholeModel, text: str) -> list[int]:
    """As a completion's prompt."""
    return model.vocabulary.tokens(text, add_special=True, parse_special=False)


async def measured(model: FoundModel, store: Store, rounds: int) -> dict[str, list[Beside]]:
    """So many rounds of each ring, in turns."""
    whole = WholeModel(model.path, n_slots=1, context=CONTEXT, threads=1)
    prompts, long = [tokens_of(whole, text) for text in SHORT[:OTHERS]], tokens_of(whole, LONG)
    whole.close()
    long = long[:PROMPT]
    assert len(long) == PROMPT, "the long text is too short"
    found: dict[str, list[Beside]] = {name: [] for name in RINGS}
    async with AsyncExitStack() as stack:
        endpoints = {}
        for name, more in RINGS.items():
            options = LocalRingOptions(NODES, OTHERS + 1, CONTEXT, usable_cores(), more)
            ring = await stack.enter_async_context(open_ring(model, store, options))
            endpoints[name] = ring.endpoint
            await stream(ring.endpoint, PATH, ask(model.name, long, 1))
        for number in range(rounds):
            for name, endpoint in endpoints.items():
                beside = await one_round(endpoint, model.name, prompts, long)
                talk(f"round {number + 1}, {name}: {beside}")
                found[name].append(beside)
    return found


def told(found: dict[str, list[Beside]]) -> dict[str, Any]:
    """Medians in milliseconds, and ratios."""
    fields = ("gap_s", "gap_median_s", "first_s", "alone_s")
    medians = {
        name: {field: statistics.median(getattr(b, field) for b in of) for field in fields}
        for name, of in found.items()
    }
    before, after = medians[HEEDLESS], medians[HEEDFUL]
    return {
        name: {field.replace("_s", "_ms"): round(1e3 * s, 1) for field, s in of.items()}
        for name, of in medians.items()
    } | {
        f"{field.removesuffix('_s')}_ratio": round(after[field] / before[field], 3)
        for field in fields
    }


def run(rounds: int = 5) -> dict[str, Any]:
    """Everything."""
    store = Store(default_home())
    model = store.resolve(pull(DEMO_SOURCE, store=store).model)
    print(f"{OTHERS} streams, and a prompt of {PROMPT} tokens", file=sys.stderr)
    return told(asyncio.run(measured(model, store, rounds)))
