"""Streams over links in bad weather: loss, a pause, and delays that jump.

Three stage nodes and a gateway as separate processes, exact greedy answers with guesses.
Each answer is held against the same one over quiet links: its tokens, and the longest
time between two of them, less the pause that was made. A lost piece of TCP is held back
for a round trip, with all behind it (`slow_net`).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from atoll.store.layout import FoundModel, Store, default_home
from atoll.store.pull import pull
from bench.far_contest import side_of
from bench.far_measures import PATH
from bench.far_prompts import KINDS, Deck
from bench.far_ring import LOOKUP, FarRing, RingShape, mode_options, open_far_ring
from bench.local import DEMO_SOURCE
from bench.stream import Streamed, stream_all
from bench.whole_process import WholeProcess

QUIET_S = 0.02
LOSS = 0.02
PAUSE_S = 1.0
PAUSE_AFTER_S = 0.5
"""When the answers have begun and none has ended."""
JUMP_S = (0.001, 0.2)
JUMP_EVERY_S = 0.7
CONTEXT = 2560
TOKENS = 48
LIMIT_S = 300

Weather = Callable[[FarRing], Awaitable[None]]


async def _loss(ring: FarRing) -> None:
    await ring.delays.set(QUIET_S, LOSS)


async def _pause(ring: FarRing) -> None:
    """Once, soon: all that is sent for a moment arrives a second late, in order."""
    await asyncio.sleep(PAUSE_AFTER_S)
    await ring.delays.set(PAUSE_S)
    await asyncio.sleep(QUIET_S)
    await ring.delays.set(QUIET_S)


async def _jumps(ring: FarRing) -> None:
    """Until the answers are there."""
    for delay_s in itertools.cycle(JUMP_S):
        await ring.delays.set(delay_s)
        await asyncio.sleep(JUMP_EVERY_S)


WEATHERS: dict[str, Weather] = {"loss": _loss, "pause": _pause, "jumps": _jumps}


async def _answers(
    ring: FarRing, prompts: list[list[int]], tokens: int, weather: Weather | None = None
) -> list[Streamed]:
    """One answer to each prompt, all at once, while the weather lasts."""
    await ring.delays.set(QUIET_S)
    asked = [side_of(ring).ask(p, tokens, exact=True, logprobs=0) for p in prompts]
    async with asyncio.TaskGroup() as tasks:
        if weather is None:
            return await stream_all(ring.endpoint, PATH, asked)
        outside = tasks.create_task(_until_cancelled(weather, ring))
        found = await stream_all(ring.endpoint, PATH, asked)
        outside.cancel()
    return found


async def _until_cancelled(weather: Weather, ring: FarRing) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await weather(ring)


def longest_gap_s(answers: list[Streamed]) -> float:
    """The longest time between two tokens of an answer."""
    return max(b - a for one in answers for a, b in itertools.pairwise(one.arrivals_s))


async def measure(
    model: FoundModel, store: Store, folder: Path, tokens: int = TOKENS
) -> dict[str, Any]:
    """Answers in each weather.

    `X_equal` is the share with the tokens of the quiet ones, `rings_lost` how often the ring
    was formed anew after it was given its delay.
    """
    found: dict[str, Any] = {}
    with WholeProcess(model.path, threads=1, slots=1, context=CONTEXT) as whole:
        deck = Deck.fresh()
        prompts = [whole.tokens(deck.deal(kind, 1)[0], special=True) for kind in KINDS]
    shape = RingShape(len(prompts), CONTEXT)
    async with open_far_ring(model, store, folder, shape, mode_options(LOOKUP, None)) as ring:
        await ring.set_delay(QUIET_S)
        # Prompts are in the caches from now on, and hold up nobody's tokens.
        await _answers(ring, prompts, 1)
        quiet = await _answers(ring, prompts, tokens)
        texts = [one.tokens() for one in quiet]
        found["quiet_gap_s"] = round(longest_gap_s(quiet), 3)
        for name, weather in WEATHERS.items():
            answers = await _answers(ring, prompts, tokens, weather)
            same = [one.tokens() == text for one, text in zip(answers, texts, strict=True)]
            found[f"{name}_equal"] = sum(same) / len(same)
            found[f"{name}_gap_s"] = round(longest_gap_s(answers), 3)
        status = await ring.status()
    found["pause_stall_s"] = round(max(0.0, found["pause_gap_s"] - PAUSE_S), 3)
    found["rings_lost"] = sum(one.epoch[1] - 2 for one in status.rings)
    return found


def run() -> dict[str, Any]:
    """Measure with the demo model."""
    store = Store(default_home())
    model = store.resolve(pull(DEMO_SOURCE, store=store).model)
    with tempfile.TemporaryDirectory(prefix="atoll-bench-") as folder:
        work = measure(model, store, Path(folder))
        return asyncio.run(asyncio.wait_for(work, LIMIT_S))
