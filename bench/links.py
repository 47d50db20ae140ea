"""How long a window takes over a link: two processes, loopback, uvloop, TLS and QUIC.

`run()` sends windows of two sizes back and forth and reports the round trip
and the processor time each hop took, both processes counted. A hop is one
window sent, encrypted, decrypted, checked and delivered. Then come laps of
four hops (`laps`), and by how much the conversion of bytes for QUIC is
quicker than the one its package came with.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

import uvloop

from atoll.domain.address import Address, HostPort
from atoll.domain.errors import LinkFault
from atoll.domain.ids import Epoch, NodeId, SessionId, Slot
from atoll.domain.wire import F16_SCALED, DataMessage, Window, row_bytes
from atoll.net import iroh_patch
from atoll.net.identity import Identity
from atoll.net.link import DataLimits, DataLink, UnusableFrame
from atoll.net.listener import Takers
from atoll.net.transport import Way, open_transport
from bench import laps

LOOPBACK = "127.0.0.1"
WARM_UP = 200
ROUNDS = 2000
SIZES = {"1k2": 600, "8k": 4095}
"""Name and width: rows of 1,201 and 8,191 bytes."""
LIMIT_S = 60


@dataclass
class _Echo:
    """Sends every window back; ends with the link."""

    link: DataLink
    ended: asyncio.Future[LinkFault | None]

    def on_frame(self, message: DataMessage, payload: bytes) -> None:
        self.link.send(message, payload)

    def on_unusable(self, fault: UnusableFrame) -> None:
        raise fault

    def on_batch_end(self) -> None:
        pass

    def on_closed(self, reason: LinkFault | None) -> None:
        self.ended.set_result(reason)


class _Player:
    """Sends a window, notes when it is back, sends the next."""

    def __init__(self, link: DataLink, width: int) -> None:
        self._link = link
        self._payload = bytes(row_bytes(F16_SCALED, width))
        self._left = WARM_UP + ROUNDS
        self._sent_s = 0.0
        self.seconds: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def serve(self) -> None:
        window = Window(
            session=SessionId(1 << 62),
            slot=Slot(0),
            epoch=Epoch(1, 1),
            seq=self._left,
            keep=self._left,
            rows=1,
            encoding=F16_SCALED,
        )
        self._sent_s = time.perf_counter()
        self._link.send(window, self._payload)

    def on_frame(self, _message: DataMessage, _payload: bytes) -> None:
        self.seconds.append(time.perf_counter() - self._sent_s)
        self._left -= 1
        if self._left:
            self.serve()
        else:
            self.done.set_result(None)

    def on_unusable(self, fault: UnusableFrame) -> None:
        raise fault

    def on_batch_end(self) -> None:
        pass

    def on_closed(self, reason: LinkFault | None) -> None:
        if not self.done.done():
            self.done.set_exception(reason or LinkFault("closed"))


def address(way: Way, port: int) -> Address:
    """The one place on loopback where `way` leads."""
    place = HostPort(LOOPBACK, port)
    return Address(quic=(place,)) if way == "quic" else Address(tls=place)


async def _echo(gateway: NodeId, port: int, width: int, way: Way) -> float:
    async with open_transport(Identity.generate(), way=way, host=LOOPBACK) as transport:
        link = await transport.dial_data(address(way, port), expected=gateway)
        echo = _Echo(link, asyncio.get_running_loop().create_future())
        link.start(echo, DataLimits(n_embd=width, rows_max=1))
        started_s = time.process_time()
        await echo.ended
        return time.process_time() - started_s


async def _play(width: int, way: Way) -> dict[str, float]:
    identity = Identity.generate()
    arrived: asyncio.Future[DataLink] = asyncio.get_running_loop().create_future()
    async with (
        open_transport(identity, way=way, host=LOOPBACK) as transport,
        transport.listen(
            LOOPBACK, 0, Takers(lambda _peer, _kind: None, on_data=arrived.set_result)
        ) as listener,
    ):
        port = transport.endpoint.port if transport.endpoint else listener.port
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bench.links",
            "echo",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            assert child.stdin is not None
            told = {"key": identity.node_id, "port": port, "width": width, "way": way}
            child.stdin.write(json.dumps(told).encode())
            child.stdin.close()
            link = await arrived
            player = _Player(link, width)
            link.start(player, DataLimits(n_embd=width, rows_max=1))
            cpu_s = time.process_time()
            player.serve()
            await player.done
            cpu_s = time.process_time() - cpu_s
            link.close()
            out, _ = await child.communicate()
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
    cpu_s += float(json.loads(out)["cpu_s"])
    seconds = sorted(player.seconds[WARM_UP:])
    return {
        "rt_us_p50": round(seconds[len(seconds) // 2] * 1e6, 1),
        "rt_us_p99": round(seconds[len(seconds) * 99 // 100] * 1e6, 1),
        "cpu_us_per_hop": round(cpu_s / (2 * (WARM_UP + ROUNDS)) * 1e6, 1),
    }


def _quicker() -> float:
    """How many times quicker 8 KiB are handed to QUIC's package than as it came."""
    iroh_patch.load()
    ffi = importlib.import_module("iroh.iroh_ffi")
    converter, data = ffi._UniffiFfiConverterBytes, bytes(8192)

    def median_s(lower: Any) -> float:
        seconds = []
        for _ in range(50):
            began_s = time.perf_counter()
            buffer = lower(data)
            seconds.append(time.perf_counter() - began_s)
            converter.lift(buffer)
        return sorted(seconds)[len(seconds) // 2]

    return median_s(super(converter, converter).lower) / median_s(converter.lower)


def run() -> dict[str, Any]:
    """Round trips of both sizes, µs, processor time per hop, µs, and laps, ms."""
    found: dict[str, Any] = {"rounds": ROUNDS}
    ways: dict[Way, str] = {"tls": ""}
    if iroh_patch.is_available():
        ways["quic"] = "quic_"
        found["quic_conversion_ratio"] = round(_quicker(), 1)
    for way, prefix in ways.items():
        for name, width in SIZES.items():
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                played = runner.run(asyncio.wait_for(_play(width, way), LIMIT_S))
            found |= {f"{prefix}{key}_{name}": value for key, value in played.items()}
    return found | laps.run(list(ways))


def _child() -> None:
    told = json.loads(sys.stdin.read())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        echo = _echo(NodeId(told["key"]), told["port"], told["width"], told["way"])
        print(json.dumps({"cpu_s": runner.run(asyncio.wait_for(echo, LIMIT_S))}))


if __name__ == "__main__":
    if sys.argv[1:] == ["echo"]:
        _child()
    else:
        print(json.dumps(run(), indent=2))
