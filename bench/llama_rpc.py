"""llama.cpp's RPC: one server on three `rpc-server`s, as the peer of a ring over distance.

`make bench-peers` builds it (`build_peers`). Its own links are those from the server to
each `rpc-server`; they lead through the same proxies as a ring's, and past them where
there is no delay.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from atoll.client.endpoint import Endpoint
from atoll.engine.confine import _end_with_parent
from atoll.engine.threads import SHARED_SPIN, usable_cores
from bench.delays import Delays, open_delays
from bench.far_ring import NODES, free_port
from bench.slow_net import LOOPBACK

SERVER, RPC_SERVER = "llama-server", "ggml-rpc-server"
READY_S = 120.0
POLL_S = 0.1
STOP_S = 10.0
SPINS: Mapping[str, Mapping[str, str]] = {
    "short": {"GOMP_SPINCOUNT": str(SHARED_SPIN)},
    "default": {},
}
"""How long idle worker threads spin: as the ring's own do, or as OpenMP's do by default.

Sleeping at once was slower in every trial, and spinning on stalls servers that share
cores: it took minutes for what takes seconds.
"""


@dataclass(frozen=True, slots=True)
class PeerSetting:
    """What is to be chosen: worker threads of each `rpc-server`, and how long they spin."""

    threads: int
    spin: str

    def __str__(self) -> str:
        return f"{self.threads} threads, {self.spin} spin"


def peer_settings(cores: int = 0) -> list[PeerSetting]:
    """Those worth trying; a lone thread waits for nobody."""
    more = range(2, (cores or usable_cores()) + 1)
    return [PeerSetting(1, "short")] + [PeerSetting(n, spin) for n in more for spin in SPINS]


def server_arguments(
    model: Path, *, servers: list[int], port: int, streams: int, context: int
) -> list[str]:
    """Of `llama-server`: all layers on the servers in equal parts, as many slots as streams."""
    return [
        *("--model", str(model), "--host", LOOPBACK, "--port", str(port)),
        *("--rpc", ",".join(f"{LOOPBACK}:{server}" for server in servers)),
        *("--gpu-layers", "99", "--tensor-split", ",".join("1" for _ in servers)),
        *("--parallel", str(streams), "--ctx-size", str(streams * context)),
        *("--threads", "1", "--offline", "--no-webui", "--fit", "off"),
        # It would fetch the cache of each finished slot over the links.
        *("--cache-ram", "0"),
    ]


class Peer:
    """A server and its `rpc-server`s, stopped (`rest`) while others are measured.

    Threads that spin on would take their cores; a stopped process takes nothing.
    """

    def __init__(self, setting: PeerSetting, endpoint: Endpoint, delays: Delays | None) -> None:
        self.setting = setting
        self.endpoint = endpoint
        self._delays = delays
        self.processes: list[asyncio.subprocess.Process] = []

    async def set_delay(self, delay_s: float) -> None:
        """Have links that take so long, each way; not for one that has them past the proxies."""
        assert self._delays is not None
        await self._delays.set(delay_s)

    def rest(self) -> None:
        """Stand still."""
        self._signal(signal.SIGSTOP)

    @contextlib.contextmanager
    def awake(self) -> Iterator[Endpoint]:
        """Serve inside the block, and stand still after it."""
        self._signal(signal.SIGCONT)
        try:
            yield self.endpoint
        finally:
            self.rest()

    def _signal(self, number: signal.Signals) -> None:
        for process in self.processes:
            if process.returncode is None:
                process.send_signal(number)


@contextlib.asynccontextmanager
async def open_peer(
    folder: Path,
    model: Path,
    setting: PeerSetting,
    *,
    log: Path,
    streams: int,
    context: int,
    far: bool,
) -> AsyncIterator[Peer]:
    """A peer that serves, at rest; only a `far` one can be told a delay.

    Raises:
        RuntimeError: It did not come up; its log says why.
    """
    ports, port = [free_port() for _ in range(NODES)], free_port()
    async with contextlib.AsyncExitStack() as stack:
        delays = await stack.enter_async_context(open_delays(ports)) if far else None
        peer = Peer(setting, Endpoint(f"http://{LOOPBACK}:{port}"), delays)
        said = stack.enter_context(log.open("wb"))
        stack.push_async_callback(_stop, peer)

        async def start(name: str, arguments: list[str]) -> None:
            peer.processes.append(
                await asyncio.create_subprocess_exec(
                    *(str(folder / name), *arguments),
                    stdout=said,
                    stderr=said,
                    env={**os.environ, **SPINS[setting.spin]},
                    # One that stands still would never see that we were killed.
                    preexec_fn=partial(_end_with_parent, os.getpid()),
                )
            )

        for own in ports:
            rpc = ["--host", LOOPBACK, "--port", str(own), "--threads", str(setting.threads)]
            await start(RPC_SERVER, rpc)
        await _wait_listening(peer, ports, log)
        servers = [delays.ways[own] for own in ports] if delays else ports
        await start(
            SERVER,
            server_arguments(model, servers=servers, port=port, streams=streams, context=context),
        )
        await _wait_ready(peer, log)
        peer.rest()
        yield peer


async def _stop(peer: Peer) -> None:
    for process in peer.processes:
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
    for process in peer.processes:
        try:
            await asyncio.wait_for(process.wait(), STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _wait_listening(peer: Peer, ports: list[int], log: Path) -> None:
    """By the kernel's table: an `rpc-server` takes a trial connection for its only client."""
    deadline_s = time.monotonic() + READY_S
    wanted = {f"0100007F:{port:04X}" for port in ports}
    while not wanted <= _listening():
        await _wait_more(peer, log, deadline_s)


def _listening() -> set[str]:
    """Addresses that somebody listens at, as the kernel writes them."""
    lines = Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]
    return {words[1] for words in map(str.split, lines) if words[3] == "0A"}


async def _wait_ready(peer: Peer, log: Path) -> None:
    deadline_s = time.monotonic() + READY_S
    async with httpx.AsyncClient() as client:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if (await client.get(f"{peer.endpoint.url}/health")).status_code == 200:
                    return
            await _wait_more(peer, log, deadline_s)


async def _wait_more(peer: Peer, log: Path, deadline_s: float) -> None:
    ended = any(process.returncode is not None for process in peer.processes)
    if ended or time.monotonic() > deadline_s:
        raise RuntimeError(f"llama.cpp's RPC did not come up; it said: {_last_words(log)}")
    await asyncio.sleep(POLL_S)


def _last_words(log: Path) -> str:
    return "; ".join(log.read_text("utf-8", "replace").splitlines()[-12:])
