"""How long it takes until a machine that has nothing but a ticket serves, and what it fetches.

`join_s` runs from the start of `atoll join TICKET` in an empty home to the first
token of the ring that waited for it, on loopback: a second node whose layers of
SmolLM2 are 31 MB. The node reaches the gateway through a counting proxy, so
`fetched_over_shard` is all that came from the gateway, with encryption, frames
and the control link, divided by the shard's size; its limit is 1. What a line
with delay and loss makes of links and shards is measured by `laps` and `shards`,
what home routers do by `nats`; `run` puts all of them together.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from atoll.client.api import ApiClient
from atoll.client.endpoint import Endpoint
from atoll.demo.local_ring import model_argument
from atoll.demo.programs import started
from atoll.gateway.run_file import read_run_file
from atoll.net import iroh_patch
from atoll.net.transport import Way
from atoll.store.layout import FoundModel, Store, default_home
from atoll.store.pull import pull
from bench import laps, nats, shards, slow_net
from bench.local import DEMO_SOURCE, PATH, talk
from bench.stream import stream

LIMIT_S = 120
POLL_S = 0.02
ROUNDS = 3


class _Opened(msgspec.Struct, frozen=True):
    join_files: tuple[str, ...]


async def _join_once(model: FoundModel, store: Store, folder: Path) -> dict[str, float]:
    """One ring of two places: the second node comes with an empty store."""
    home, named = folder / "gateway", model_argument(model, store)
    common = ["--threads", "1", "--gpu", "none", "--share-cores"]
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(
            started(
                "gateway",
                [
                    *("serve", named, "--home", str(home), "--store", str(store.home), *common),
                    *("--nodes", "2", "--streams", "4", "--context", "1024", "--plan", "equal"),
                    *("--port", "0", "--link-port", "0", "--json", "--stop-at-eof"),
                ],
                folder,
            )
        )
        opened = msgspec.json.decode(await gateway.first_line(), type=_Opened)
        running = read_run_file(home)
        assert running is not None
        client = await stack.enter_async_context(ApiClient(Endpoint.of_run_file(running)))
        first = ["join", opened.join_files[0], "--home", str(folder / "1"), "--name", "one"]
        own = ["--store", str(store.home), *common]
        await stack.enter_async_context(started("one", [*first, *own], folder))
        # Other processes get ready; only asking tells.
        while (await client.status()).nodes_missing != 1:  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
        came = 0

        def count(size: int) -> None:
            nonlocal came
            came += size

        port = int(running.addresses[0].rpartition(":")[2])
        proxy = slow_net.slow_tcp(port, slow_net.Path(), brought=count)
        proxied = await stack.enter_async_context(proxy)
        ticket = await _invite(home, f"{slow_net.LOOPBACK}:{proxied}")
        began_s = time.perf_counter()
        second = ["join", ticket, "--home", str(folder / "2"), "--name", "two", *common]
        empty = ["--store", str(folder / "store")]
        await stack.enter_async_context(started("two", [*second, *empty], folder))
        while (await client.health()).status != "ok":  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
        request = {"model": model.name, "prompt": "An atoll is", "max_tokens": 2}
        answer = await stream(Endpoint.of_run_file(running), PATH, request)
        [stage] = [s for s in (await client.status()).rings[0].stages if s.name == "two"]
        return {
            "join_s": answer.arrivals_s[0] - began_s,
            "fetched_over_shard": came / stage.shard_bytes,
            "shard_mb": stage.shard_bytes / 1e6,
        }


async def _invite(home: Path, address: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "atoll", "invite", "--home", str(home), "--address", address),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    out, _ = await process.communicate()
    return out.decode().strip()


def joins() -> dict[str, Any]:
    """Medians over `ROUNDS`."""
    store = Store(default_home())
    model = store.resolve(pull(DEMO_SOURCE, store=store).model)
    found: list[dict[str, float]] = []
    for _ in range(ROUNDS):
        with (
            tempfile.TemporaryDirectory(prefix="atoll-bench-") as folder,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            once = _join_once(model, store, Path(folder))
            found.append(runner.run(asyncio.wait_for(once, LIMIT_S)))
    return {key: round(statistics.median(one[key] for one in found), 4) for key in found[0]}


def run() -> dict[str, Any]:
    """All figures of joining: seconds, ratios, and rates in MB/s."""
    talk("join ...")
    found = joins()
    ways: list[Way] = ["tls", "quic"] if iroh_patch.is_available() else ["tls"]
    talk("laps ...")
    found |= laps.run(ways)
    if "quic" in ways:
        talk("shards ...")
        found |= shards.run()
        talk("routers ...")
        found |= nats.run()
    return found


if __name__ == "__main__":
    print(json.dumps(joins(), indent=2))
