"""A long prompt comes while others are answered: how long they wait, and how long it takes.

Rings of the demo model run at the same time and take turns, two and two: one whose prompts
take no heed of others (`--chunk-ms 0`), and one with the default. Two have three nodes with
equal shares, so nothing is known of their speed; two have one node, and a plan by what it
measured. In each round four streams decode; once all have some tokens a prompt of 2,000
tokens comes. Told are the longest gap between two tokens of any of the four while it
enters, the middle one, the time to its first token, and the same time where nobody else is
there; medians over the rounds, and ratios of the second ring of two to the first.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from atoll.client.endpoint import Endpoint
from atoll.demo.local_ring import LocalRingOptions
from atoll.engine.threads import usable_cores
from atoll.engine.whole import WholeModel
from atoll.store.layout import FoundModel, Store, default_home
from atoll.store.pull import pull
from bench.local import DEMO_SOURCE, NODES, PATH, open_ring, status_of, talk
from bench.prompts import LONG, SHORT
from bench.stream import Streamed, stream

OTHERS = 4
PROMPT, CONTEXT = 2000, 4096
TOKENS_BEFORE = 12
"""Tokens of each of the others before the prompt comes."""
TOKENS_MAX = 1500
POLL_S = 0.01
HEEDLESS, HEEDFUL = "without heed", "with heed"
OPTIONS = {HEEDLESS: ("--chunk-ms", "0"), HEEDFUL: ()}
"""Of the rings that are compared."""
EQUAL, PLANNED = f"{NODES} equal nodes", "one planned node"
KINDS: tuple[tuple[str, int, Literal["auto", "equal"]], ...] = (
    (EQUAL, NODES, "equal"),
    (PLANNED, 1, "auto"),
)
FIELDS = ("gap_s", "gap_median_s", "first_s", "alone_s")


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


def rings() -> dict[tuple[str, str], LocalRingOptions]:
    """What is compared, by kind and by heed."""
    threads = usable_cores()
    return {
        (kind, heed): LocalRingOptions(nodes, OTHERS + 1, CONTEXT, threads, plan, more)
        for kind, nodes, plan in KINDS
        for heed, more in OPTIONS.items()
    }


async def measured(
    model: FoundModel, store: Store, rounds: int
) -> dict[tuple[str, str], list[Beside]]:
    """So many rounds of each ring, in turns."""
    whole = WholeModel(model.path, n_slots=1, context=CONTEXT, threads=1)
    prompts, long = [tokens_of(whole, text) for text in SHORT[:OTHERS]], tokens_of(whole, LONG)
    whole.close()
    long = long[:PROMPT]
    assert len(long) == PROMPT, "the long text is too short"
    found: dict[tuple[str, str], list[Beside]] = {}
    async with AsyncExitStack() as stack:
        endpoints = {}
        for name, options in rings().items():
            ring = await stack.enter_async_context(open_ring(model, store, options))
            for report in [r.plan for r in (await status_of(ring)).rings if r.plan]:
                talk(
                    f"{name}: chunks of {report.chunk_rows}, {report.beside_rows} beside"
                    f" others, {report.beside_ms:.0f} ms"
                )
            endpoints[name], found[name] = ring.endpoint, []
            await stream(ring.endpoint, PATH, ask(model.name, long, 1))
        for number in range(rounds):
            for name, endpoint in endpoints.items():
                beside = await one_round(endpoint, model.name, prompts, long)
                talk(f"round {number + 1}, {name}: {beside}")
                found[name].append(beside)
    return found


def told(found: dict[tuple[str, str], list[Beside]]) -> dict[str, Any]:
    """Medians in milliseconds, and ratios."""
    medians = {
        name: {field: statistics.median(getattr(b, field) for b in of) for field in FIELDS}
        for name, of in found.items()
    }
    out: dict[str, Any] = {}
    for kind in dict.fromkeys(kind for kind, _ in found):
        for heed in OPTIONS:
            of = medians[kind, heed]
            out[f"{kind}, {heed}, ms"] = {name[:-2]: round(1e3 * s, 1) for name, s in of.items()}
        before, after = medians[kind, HEEDLESS], medians[kind, HEEDFUL]
        out[f"{kind}, ratios"] = {f[:-2]: round(after[f] / before[f], 3) for f in FIELDS}
    return out


def run(rounds: int = 3) -> dict[str, Any]:
    """Everything."""
    store = Store(default_home())
    model = store.resolve(pull(DEMO_SOURCE, store=store).model)
    talk(f"{OTHERS} streams, and a prompt of {PROMPT} tokens")
    return told(asyncio.run(measured(model, store, rounds)))
