"""The demo: start a ring, ask it, look at its stages, hold its tokens against the whole model's."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from atoll.client.api import ApiClient, ApiFault, ChatMessage, ChatOptions, Part
from atoll.client.chat import choose_model
from atoll.demo.local_ring import LocalRing, LocalRingOptions, local_ring
from atoll.demo.result import DemoResult, DemoStage
from atoll.demo.whole import whole_tokens
from atoll.gateway.status import GatewayStatus, StageStatus
from atoll.model.manifest import describe
from atoll.model.parts import open_model
from atoll.store.layout import FoundModel, Store

CONTEXT_MAX = 2048
REPORTS_S = 5.0
"""Most time to wait for the nodes' last reports, which come each second."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What to ask, and how.

    Args:
        prompt: The question.
        max_tokens: Most tokens of the answer, and tokens to compare.
        threads: Worker threads of each stage.
        nodes: How many nodes.
    """

    prompt: str
    max_tokens: int
    threads: int
    nodes: int = 3


@dataclass(frozen=True, slots=True)
class Audience:
    """Whom to tell: `tell` takes lines of talk, `show` the answer as it comes."""

    tell: Callable[[str], None]
    show: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Asked:
    """An answer as its client saw it; times in seconds since the request."""

    text: str
    pieces: tuple[bytes, ...]
    prompt_tokens: int
    tokens: int
    first_s: float
    last_s: float


@asynccontextmanager
async def open_demo(
    model: FoundModel, store: Store, options: DemoOptions, audience: Audience
) -> AsyncIterator[tuple[LocalRing, DemoResult]]:
    """Run the demo; its ring stays up inside the block and is gone after it.

    Args:
        model: What to serve.
        store: Where models and shards lie.
        options: What to ask.
        audience: Whom to tell.

    Raises:
        AtollError: Something failed; nothing is left running.
    """
    card = describe(open_model(model.path), model.model)
    context = min(CONTEXT_MAX, card.context_train)
    ring_options = LocalRingOptions(options.nodes, 4, context, options.threads)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="atoll-demo-") as folder:
        async with local_ring(model, store, Path(folder), ring_options, tell=audience.tell) as ring:
            start_s = time.perf_counter() - began
            audience.tell(f"the ring is up after {start_s:.1f} s")
            yield (
                ring,
                await _look(ring, model, options, audience, context=context, start_s=start_s),
            )


async def _look(
    ring: LocalRing,
    model: FoundModel,
    options: DemoOptions,
    audience: Audience,
    *,
    context: int,
    start_s: float,
) -> DemoResult:
    messages = [ChatMessage("user", options.prompt)]
    async with ApiClient(ring.endpoint) as client:
        name = await choose_model(client, None)
        audience.tell(f"\n> {options.prompt}")
        plain = ChatOptions(max_tokens=options.max_tokens, temperature=0.0)
        answer = await _ask(client, name, messages, plain, audience.show)
        status = await _wait_reports(client, answer.tokens)
        audience.tell("\ncomparing the ring's tokens with the whole model's ...")
        exact = ChatOptions(
            max_tokens=options.max_tokens,
            temperature=0.0,
            extra={"exact": True, "logprobs": True, "ignore_eos": True},
        )
        checked = await _ask(client, name, messages, exact, lambda _text: None)
    whole = await whole_tokens(
        model, messages, options.max_tokens, context=context, threads=options.threads
    )
    decode_s = answer.last_s - answer.first_s
    return DemoResult(
        model=name,
        prompt=options.prompt,
        answer=answer.text,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.tokens,
        start_s=round(start_s, 3),
        first_token_ms=round(1e3 * answer.first_s, 2),
        tokens_per_s=round((answer.tokens - 1) / decode_s, 2) if decode_s > 0 else 0.0,
        whole_tokens_per_s=round(whole.tokens_per_s, 2),
        compared=max(len(whole.pieces), len(checked.pieces)),
        equal=sum(one == other for one, other in zip_longest(whole.pieces, checked.pieces)),
        threads=options.threads,
        gateway_memory_bytes=status.gateway_memory_bytes,
        ends=status.ends,
        stages=tuple(_stage(stage) for stage in status.rings[0].stages),
        lap=status.rings[0].lap,
    )


async def _ask(
    client: ApiClient,
    model: str,
    messages: list[ChatMessage],
    options: ChatOptions,
    show: Callable[[str], None],
) -> _Asked:
    """Stream one answer and take its times."""
    parts: list[Part] = []
    began = time.perf_counter()
    first_s = last_s = 0.0
    async with aclosing(client.chat(model, messages, options)) as stream:
        async for part in stream:
            now = time.perf_counter() - began
            if part.text or part.tokens:
                first_s, last_s = first_s or now, now
                show(part.text)
            parts.append(part)
    usage = next((part.usage for part in parts if part.usage is not None), None)
    if usage is None:
        raise ApiFault("the answer came without its usage")
    return _Asked(
        text="".join(part.text for part in parts),
        pieces=tuple(bytes(token.bytes or ()) for part in parts for token in part.tokens),
        prompt_tokens=usage.prompt_tokens,
        tokens=usage.completion_tokens,
        first_s=first_s,
        last_s=last_s,
    )


async def _wait_reports(client: ApiClient, windows: int) -> GatewayStatus:
    """The ring in numbers, once every node has reported at least so many windows."""
    status = await client.status()
    deadline = time.perf_counter() + REPORTS_S
    while min((s.windows for s in status.rings[0].stages), default=0) < windows:
        if time.perf_counter() > deadline:
            break
        await asyncio.sleep(0.2)
        status = await client.status()
    return status


def _stage(stage: StageStatus) -> DemoStage:
    return DemoStage(
        node=stage.name,
        first=stage.first,
        last=stage.last,
        shard_bytes=stage.shard_bytes,
        memory_bytes=stage.memory_bytes,
        ms_per_token=round(stage.engine_ms + stage.convert_ms + stage.pipe_ms + stage.node_ms, 3),
    )
