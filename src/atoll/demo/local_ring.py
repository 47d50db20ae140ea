"""A ring on one machine: a gateway and its nodes, each the command that anybody runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from atoll.client.api import ApiClient
from atoll.client.endpoint import Endpoint
from atoll.demo.programs import Program, started
from atoll.domain.errors import AtollError
from atoll.gateway.run_file import read_run_file
from atoll.store.layout import FoundModel, Store

OPEN_S = 300.0
"""Most time for cutting the ends and hashing the shards of a large model."""
READY_S = 300.0
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class LocalRingOptions:
    """What ring to make.

    Args:
        nodes: How many nodes.
        streams: Answers that can be computed at once.
        context: Positions a session may have.
        threads: Worker threads of each stage and of the ends for a single stream.
        plan: Who computes what, as for `atoll serve`. By a plan one node may do it alone;
            with equal shares all are to be seen at work.
        more: Further options of `atoll serve`.
        threads_large: Worker threads for more rows than one; 0: every core.
    """

    nodes: int = 3
    streams: int = 4
    context: int = 2048
    threads: int = 1
    plan: Literal["auto", "equal"] = "equal"
    more: tuple[str, ...] = ()
    threads_large: int = 0


@dataclass(frozen=True, slots=True)
class LocalRing:
    """A ring that is up. `programs` are the gateway and the nodes."""

    endpoint: Endpoint
    home: Path
    programs: tuple[Program, ...]


class _Opened(msgspec.Struct, frozen=True):
    """What `atoll serve --json` prints, as far as it matters here."""

    url: str
    join_files: tuple[str, ...]


@asynccontextmanager
async def local_ring(
    model: FoundModel,
    store: Store,
    folder: Path,
    options: LocalRingOptions,
    *,
    tell: Callable[[str], None],
) -> AsyncIterator[LocalRing]:
    """Have a ring run inside the block; a process that dies ends the block.

    Args:
        model: What to serve.
        store: Where models and shards lie.
        folder: For keys, logs and join files; the caller removes it.
        options: What ring.
        tell: Takes one line at a time about what happens.

    Raises:
        AtollError: A process died or the ring did not come up.
    """
    try:
        # The watchers end before the programs are stopped on purpose.
        async with AsyncExitStack() as programs, asyncio.TaskGroup() as watchers:
            starter = _Starter(programs, watchers, folder)
            try:
                yield await _start_ring(starter, model, store, options, tell)
            finally:
                starter.stop_watching()
    except ExceptionGroup as group:
        raise _first(group) from None


class _Starter:
    """Starts programs in one folder and watches over them."""

    def __init__(self, programs: AsyncExitStack, watchers: asyncio.TaskGroup, folder: Path) -> None:
        self._programs, self._watchers = programs, watchers
        self.folder = folder
        self._watching: list[asyncio.Task[None]] = []

    async def start(self, name: str, arguments: list[str]) -> Program:
        program = await self._programs.enter_async_context(started(name, arguments, self.folder))
        self._watching.append(self._watchers.create_task(program.wait_died(), name=f"watch-{name}"))
        return program

    def stop_watching(self) -> None:
        for watch in self._watching:
            watch.cancel()


async def _start_ring(
    starter: _Starter,
    model: FoundModel,
    store: Store,
    options: LocalRingOptions,
    tell: Callable[[str], None],
) -> LocalRing:
    """Start the gateway, then the nodes, and wait until they serve."""
    home = starter.folder / "gateway"
    # The ring is compared with a whole model on the processor.
    common = ["--store", str(store.home), "--threads", str(options.threads), "--gpu", "none"]
    if options.threads_large:
        common += ["--threads-large", str(options.threads_large)]
    named = model_argument(model, store)
    gateway = await starter.start(
        "gateway",
        [
            *("serve", named, "--home", str(home), *common, "--share-cores"),
            *("--nodes", str(options.nodes), "--streams", str(options.streams)),
            *("--context", str(options.context), "--plan", options.plan),
            # And so that each token costs a step, and each prompt its rows, as in the whole model.
            *("--speculate", "none", "--no-reuse"),
            *options.more,
            *("--port", "0", "--link-port", "0", "--json", "--stop-at-eof"),
        ],
    )
    opened = await _wait_opened(gateway)
    tell(f"gateway: {opened.url}/v1 (process {gateway.pid})")
    nodes: list[Program] = []
    for number, file in enumerate(opened.join_files, start=1):
        name = f"node-{number}"
        own = ["--name", name, "--home", str(starter.folder / name)]
        join = ["join", file, "--model", named, *own, *common, "--share-cores", "--wait", "0"]
        nodes.append(await starter.start(name, join))
        tell(f"{name}: process {nodes[-1].pid}")
    return LocalRing(await _wait_ready(home), home, (gateway, *nodes))


def model_argument(model: FoundModel, store: Store) -> str:
    """What to call the model on a command line: its id if it is in the store, else its path."""
    return model.model if store.model_path(model.model) == model.path else str(model.path)


async def _wait_opened(gateway: Program) -> _Opened:
    try:
        async with asyncio.timeout(OPEN_S):
            return msgspec.json.decode(await gateway.first_line(), type=_Opened)
    except TimeoutError:
        raise AtollError(f"the gateway was not up after {OPEN_S:.0f} s") from None


async def _wait_ready(home: Path) -> Endpoint:
    found = read_run_file(home)
    if found is None:
        raise AtollError("the gateway left no run file", hint="look at its log with --keep")
    endpoint = Endpoint.of_run_file(found)
    async with ApiClient(endpoint) as client:
        try:
            async with asyncio.timeout(READY_S):
                # Another process gets ready; only asking it tells.
                while (await client.health()).status != "ok":  # noqa: ASYNC110
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            reason = (await client.health()).reason or "no reason given"
            raise AtollError(f"the ring was not up after {READY_S:.0f} s: {reason}") from None
    return endpoint


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
