"""A shard over a line with delay and loss, and what it does to windows on the same line.

A lender and a borrower, each in a network namespace of its own, with `slow_net`
between them: all their QUIC connections share one path. `shard_mb_s_loss1` is
the rate at 20 ms each way and 1 % loss; beside it stands that of a single
connection, which is what the several are for. `token_rtt_beside_bulk` is the
median time from a window's leaving to its credit's coming while a shard comes
the same way over the same line, of 20 ms and 100 Mbit/s, divided by that on the
idle line.

The limit of the rate is the loss: by Mathis' formula (ACM CCR 27(3), 1997) one
connection with packets of 1,200 bytes and a round trip of 40 ms brings
1200 / 0.04 * sqrt(1.5 / 0.01) = 0.37 MB/s.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import uvloop

from atoll.domain.address import Address, HostPort
from atoll.domain.bulk import ShardRange
from atoll.domain.errors import LinkFault
from atoll.domain.ids import Epoch, ModelId, NodeId, SessionId, Slot
from atoll.domain.wire import F16_SCALED, DataMessage, Grant, Window, row_bytes
from atoll.model.source import ByteSource
from atoll.net.identity import Identity
from atoll.net.link import DataLimits, DataLink, UnusableFrame
from atoll.net.listener import Takers
from atoll.net.transport import open_transport
from atoll.transfer import borrower
from atoll.transfer.borrower import Borrower, Holder
from atoll.transfer.lender import open_lender
from bench.children import heard, hide, open_child, say
from bench.slow_net import LOOPBACK, Path, slow_udp

DELAY_S = 0.02
LOSSY = Path(delay_s=DELAY_S, loss=0.01)
UPLINK = Path(delay_s=DELAY_S, bytes_per_s=12.5e6, buffer_bytes_max=512 * 1024)
"""100 Mbit/s, and a router that holds one round trip of it (RFC 3439, section 3: buffers)."""
SHARD_BYTES = 30_000_000
SMALL_BYTES = 8_000_000
"""For a single connection, which would take minutes for the other."""
WIDTH = 4095
LIMITS = DataLimits(n_embd=WIDTH, rows_max=1)
SETTLE_S = 3.0
IDLE_ROUNDS = 50
BETWEEN_S = 0.01
LIMIT_S = 120
SHARD = ShardRange(ModelId("0" * 64), 1, 2)


class _Noise:
    """A shard of the size that was asked for, always the same, from no disk."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._pattern = bytes(i * 7 % 251 for i in range(1 << 16)) * 17

    def read(self, offset: int, size: int) -> bytes:
        size = max(0, min(size, self.size_bytes - offset))
        start = offset % (1 << 16)
        return self._pattern[start : start + size]


class _Taker:
    """Answers every window with a credit, as the next stage of a ring does."""

    def __init__(self, link: DataLink) -> None:
        self._link = link

    def on_frame(self, _message: DataMessage, _payload: bytes) -> None:
        self._link.send(Grant(1))

    def on_unusable(self, fault: UnusableFrame) -> None:
        raise fault

    def on_batch_end(self) -> None:
        pass

    def on_closed(self, reason: LinkFault | None) -> None:
        pass


class _Sender(_Taker):
    """Notes that a credit has come."""

    def __init__(self, link: DataLink) -> None:
        super().__init__(link)
        self.back = asyncio.Event()

    def on_frame(self, _message: DataMessage, _payload: bytes) -> None:
        self.back.set()


async def _lend(size_bytes: int) -> None:
    """Lend, and time windows to the borrower: alone, then while it fetches."""
    hide()

    @contextlib.contextmanager
    def noise(_peer: NodeId, _shard: ShardRange) -> Iterator[ByteSource]:
        yield _Noise(size_bytes)

    async with (
        open_lender(noise) as lender,
        open_transport(Identity.generate(), way="quic", host=LOOPBACK) as transport,
        transport.listen(LOOPBACK, 0, Takers(lambda *_: None, on_bulk=lender.on_bulk)),
    ):
        say(key=transport.identity.node_id, port=transport.udp_port)
        told = await heard()
        link = await transport.dial_data(_at(told["port"]), expected=NodeId(told["key"]))
        sender = _Sender(link)
        link.start(sender, LIMITS)
        await asyncio.sleep(SETTLE_S)
        idle = [await _round_trip(link, sender) for _ in range(IDLE_ROUNDS)]
        say(idle_s=statistics.median(idle))
        await heard()
        stopping = asyncio.get_running_loop().create_task(heard(), name="wait for the end")
        beside: list[float] = []
        while not stopping.done():
            beside.append(await _round_trip(link, sender))
            await asyncio.sleep(BETWEEN_S)
        say(beside_s=statistics.median(beside), rounds=len(beside))
        link.close()
        await link.wait_closed()


async def _borrow(lanes: int) -> None:
    """Open the way to the lender, then fetch when told."""
    hide()
    borrower.LANES["quic"] = lanes or borrower.LANES["quic"]

    def take(link: DataLink) -> None:
        link.start(_Taker(link), LIMITS)

    async with (
        open_transport(Identity.generate(), way="quic", host=LOOPBACK) as transport,
        transport.listen(LOOPBACK, 0, Takers(lambda *_: None, on_data=take)),
    ):
        say(key=transport.identity.node_id)
        told = await heard()
        holder = Holder(
            "lender",
            lambda: transport.dial_bulk(_at(told["port"]), expected=NodeId(told["key"])),
        )
        # From here on the lender can dial back: both sides' packets have a way.
        (await holder.dial()).close()
        say()
        await heard()
        size_bytes, seconds = await _fetch(holder)
        say(mb_s=size_bytes / seconds / 1e6)
        await heard()  # the lender's last window still wants its credit


def _at(port: int) -> Address:
    return Address(quic=(HostPort(LOOPBACK, port),))


async def _fetch(holder: Holder) -> tuple[int, float]:
    """Bytes of the shard, and the seconds that it took."""
    began_s = time.perf_counter()
    with tempfile.TemporaryFile(buffering=0) as out:
        fetch = Borrower(SHARD, out, progress=lambda _here, _all: None, room=lambda _size: None)
        await fetch.run([holder])
    return fetch.fetched_bytes, time.perf_counter() - began_s


async def _round_trip(link: DataLink, sender: _Sender) -> float:
    window = Window(
        SessionId(1 << 62), Slot(0), Epoch(1, 1), 0, keep=0, rows=1, encoding=F16_SCALED
    )
    sender.back.clear()
    began_s = time.perf_counter()
    link.send(window, bytes(row_bytes(F16_SCALED, WIDTH)))
    await sender.back.wait()
    return time.perf_counter() - began_s


async def _measure(path: Path, size_bytes: int, lanes: int = 0) -> dict[str, Any]:
    """One fetch over `path`, with `lanes` links or as many as the product takes."""
    module = "bench.shards"
    async with (
        open_child(module, "lend", str(size_bytes), hidden=True) as lender,
        open_child(module, "borrow", str(lanes), hidden=True) as taker,
    ):
        assert lender.back is not None
        back = int(lender.back.getsockname()[1])
        async with slow_udp(
            lender.place["port"], path, front=taker.front, back=lender.back
        ) as port:
            taker.tell(key=lender.place["key"], port=port)
            await taker.hear()
            lender.tell(key=taker.place["key"], port=back)
            found: dict[str, Any] = await lender.hear()
            lender.tell()
            taker.tell()
            found |= await taker.hear()
            lender.tell()
            found |= await lender.hear()
    return found


def run() -> dict[str, Any]:
    """Rates, MB/s, and the ratio of round trips; None where a system has no namespaces."""

    def measured(path: Path, size_bytes: int, lanes: int = 0) -> dict[str, Any]:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(asyncio.wait_for(_measure(path, size_bytes, lanes), LIMIT_S))

    try:
        lossy = measured(LOSSY, SHARD_BYTES)
        alone = measured(LOSSY, SMALL_BYTES, lanes=1)
        shared = measured(UPLINK, SHARD_BYTES)
    except RuntimeError as error:
        print(f"shards: {error}", file=sys.stderr)
        return {"shard_mb_s_loss1": None, "token_rtt_beside_bulk": None}
    return {
        "shard_mb_s_loss1": round(lossy["mb_s"], 2),
        "shard_mb_s_loss1_one_link": round(alone["mb_s"], 2),
        "token_rtt_beside_bulk": round(shared["beside_s"] / shared["idle_s"], 2),
        "token_rtt_idle_ms": round(1e3 * shared["idle_s"], 1),
        "shard_mb_s_uplink": round(shared["mb_s"], 2),
    }


def _main(role: str, number: int) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_lend(number) if role == "lend" else _borrow(number))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        _main(sys.argv[1], int(sys.argv[2]))
    else:
        print(json.dumps(run(), indent=2))
