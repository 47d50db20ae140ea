"""How long a lap of four hops takes: four processes in a ring, TLS and QUIC.

A window of 8 KiB goes from the player through three that pass it on and back,
on loopback and over four links of 20 ms each (`slow_net`, in the process that
starts the four). What a lap takes more than the delay is what links and
processes add.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import uvloop

from atoll.domain.address import Address, HostPort
from atoll.domain.errors import LinkFault
from atoll.domain.ids import Epoch, NodeId, SessionId, Slot
from atoll.domain.wire import F16_SCALED, DataMessage, Window, row_bytes
from atoll.net.identity import Identity
from atoll.net.link import DataLimits, DataLink, UnusableFrame
from atoll.net.listener import Takers
from atoll.net.transport import Transport, Way, open_transport
from bench.children import heard, hide, open_child, say
from bench.slow_net import LOOPBACK, Path, slow_tcp, slow_udp

HOPS = 4
WIDTH = 4095
"""Rows of 8,191 bytes."""
DELAY_S = 0.02
WARM_UP, ROUNDS = 200, 1000
SLOW_WARM_UP, SLOW_ROUNDS = 20, 40
SETTLE_S = 3.0
"""Time for the links to be warm before laps over the delay are counted."""
LIMIT_S = 60
LIMITS = DataLimits(n_embd=WIDTH, rows_max=1)


@dataclass
class _Taker:
    """Passes every window to `onward`, or notes that it is back."""

    onward: DataLink | None = None
    back: asyncio.Event | None = None
    ended: asyncio.Event | None = None

    def on_frame(self, message: DataMessage, payload: bytes) -> None:
        if self.back is not None:
            self.back.set()
        elif self.onward is not None:
            self.onward.send(message, payload)

    def on_unusable(self, fault: UnusableFrame) -> None:
        raise fault

    def on_batch_end(self) -> None:
        pass

    def on_closed(self, _reason: LinkFault | None) -> None:
        if self.ended is not None:
            self.ended.set()


@contextlib.asynccontextmanager
async def _node(way: Way) -> AsyncIterator[tuple[Transport, int, asyncio.Future[DataLink]]]:
    """What dials and takes links, its port, and the link that will arrive."""
    arrived: asyncio.Future[DataLink] = asyncio.get_running_loop().create_future()
    async with (
        open_transport(Identity.generate(), way=way, host=LOOPBACK) as transport,
        transport.listen(
            LOOPBACK, 0, Takers(lambda _peer, _kind: None, on_data=arrived.set_result)
        ) as listener,
    ):
        port = transport.endpoint.port if transport.endpoint else listener.port
        yield transport, port, arrived


async def _dial(transport: Transport, way: Way, key: str, port: int) -> DataLink:
    place = HostPort(LOOPBACK, port)
    address = Address(quic=(place,)) if way == "quic" else Address(tls=place)
    return await transport.dial_data(address, expected=NodeId(key))


async def _serve(role: str, way: Way, hidden: bool) -> None:
    """A node of the ring: listen, say where, dial the next; pass windows on, or play."""
    if hidden:
        hide()
    async with _node(way) as (transport, port, arrived):
        say(key=transport.identity.node_id, port=port)
        told = await heard()
        onward = await _dial(transport, way, told["key"], told["port"])
        onward.start(_Taker(), LIMITS)
        upstream = await arrived
        if role == "play":
            back = asyncio.Event()
            upstream.start(_Taker(back=back), LIMITS)
            await asyncio.sleep(told["settle_s"])
            say(laps=await _count(onward, back, told["warm_up"], told["rounds"]))
        else:
            ended = asyncio.Event()
            upstream.start(_Taker(onward=onward, ended=ended), LIMITS)
            await ended.wait()
        onward.close()
        upstream.close()
        await onward.wait_closed()


async def _laps(way: Way, *, slow: bool) -> list[float]:
    """Times of all laps that count, s, in rising order."""
    hidden = slow and way == "quic"
    async with contextlib.AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(open_child("bench.laps", role, way, hidden=hidden))
            for role in ("play", *["pass"] * (HOPS - 1))
        ]
        for node, following in zip(nodes, nodes[1:] + nodes[:1], strict=True):
            port = int(following.place["port"])
            if slow:
                path = Path(delay_s=DELAY_S)
                proxy = (
                    slow_udp(port, path, front=node.front, back=following.back)
                    if hidden
                    else slow_tcp(port, path)
                )
                port = await stack.enter_async_context(proxy)
            node.tell(
                key=following.place["key"],
                port=port,
                settle_s=SETTLE_S if slow else 0.0,
                warm_up=SLOW_WARM_UP if slow else WARM_UP,
                rounds=SLOW_ROUNDS if slow else ROUNDS,
            )
        return sorted((await nodes[0].hear())["laps"])


async def _count(onward: DataLink, back: asyncio.Event, warm_up: int, rounds: int) -> list[float]:
    payload = bytes(row_bytes(F16_SCALED, WIDTH))
    seconds: list[float] = []
    for seq in range(warm_up + rounds):
        back.clear()
        window = Window(
            SessionId(1 << 62), Slot(0), Epoch(1, 1), seq, keep=seq, rows=1, encoding=F16_SCALED
        )
        began_s = time.perf_counter()
        onward.send(window, payload)
        await back.wait()
        seconds.append(time.perf_counter() - began_s)
    return seconds[warm_up:]


def run(ways: Sequence[Way]) -> dict[str, Any]:
    """Laps on loopback, ms, and over 80 ms of delay, as multiples of that delay.

    Those of QUIC over the delay are None where a system has no namespaces.
    """
    found: dict[str, Any] = {}
    for way in ways:
        for slow in (False, True):
            name, unit_s = f"lap_{way}_ms", 1e-3
            if slow:
                name = "lap_over_delay" + ("" if way == "quic" else f"_{way}")
                unit_s = HOPS * DELAY_S
            try:
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    seconds = runner.run(asyncio.wait_for(_laps(way, slow=slow), LIMIT_S))
            except RuntimeError as error:
                print(f"{name}: {error}", file=sys.stderr)
                found[name] = None
                continue
            found[name] = round(seconds[len(seconds) // 2] / unit_s, 3)
            found[f"{name}_p99"] = round(seconds[len(seconds) * 99 // 100] / unit_s, 3)
    return found


def _main(role: str, way: Way, hidden: bool) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(_serve(role, way, hidden), LIMIT_S))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        _main(sys.argv[1], "quic" if sys.argv[2] == "quic" else "tls", len(sys.argv) > 3)
    else:
        print(json.dumps(run(["tls", "quic"]), indent=2))
