"""A slow and lossy network in user space: a proxy for TCP and one for UDP.

For tests and benchmarks, on loopback only. Both directions have the same
`Path`. Chance is seeded and counts packets, so a path loses the same ones again.

What it cannot show: TCP ends at the proxy, so its congestion control never
sees the delay and no start is slow; a lost piece of TCP is only held back, and
all behind it, by one more round trip, as a quick retransmission would. UDP is
passed on packet by packet, so QUIC's own control sees delay, loss and rate.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import random
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import cast

from atoll.engine.confine import CLONE_NEWNET, CLONE_NEWUSER

LOOPBACK = "127.0.0.1"
CLIENTS_MAX = 64
"""Most connections through one TCP proxy at once."""
_EARLY_S = 0.0005
"""Timers of the loop are in milliseconds: what is due within half of one goes now."""
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1
"""Linux's <linux/sockios.h> and <linux/if.h>."""
_READ_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Path:
    """What happens on the way, each way.

    `loss` is the share of packets that get lost, `bytes_per_s` the rate (None:
    no limit), `buffer_bytes_max` what may be under way or wait for its turn:
    more is dropped (UDP) or no longer read (TCP).
    """

    delay_s: float = 0.0
    loss: float = 0.0
    bytes_per_s: float | None = None
    buffer_bytes_max: int = 8 * 1024 * 1024

    def __post_init__(self) -> None:
        if not (
            0 <= self.delay_s <= 60
            and 0 <= self.loss < 1
            and (self.bytes_per_s is None or self.bytes_per_s > 0)
            and self.buffer_bytes_max > 0
        ):
            raise ValueError(f"path out of range: {self}")


AnyPath = Path | Callable[[], Path]
"""A path that stays, or what tells how it is now."""


class Way:
    """One direction of one flow: hands on in order what was put in, when it is due."""

    def __init__(self, path: AnyPath, rng: random.Random, hand_on: Callable[[bytes], None]) -> None:
        self._path_now = path if callable(path) else lambda: path
        self._rng = rng
        self._hand_on = hand_on
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[float, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._free_s = 0.0
        self._last_due_s = 0.0
        self.queued_bytes = 0
        self.lost = 0
        self.room = asyncio.Event()
        self.room.set()

    def put(self, data: bytes, *, reliable: bool = False) -> bool:
        """Send `data` on its way; False where it got lost or found no room.

        A `reliable` piece is held back for a round trip where it gets lost.
        """
        path = self._path_now()
        is_lost = self._rng.random() < path.loss
        if is_lost:
            self.lost += 1
        if not reliable and (is_lost or self.queued_bytes + len(data) > path.buffer_bytes_max):
            return False
        now_s = self._loop.time()
        sent_s = max(now_s, self._free_s)
        if path.bytes_per_s is not None:
            sent_s += len(data) / path.bytes_per_s
            self._free_s = sent_s
        due_s = sent_s + path.delay_s + (2 * path.delay_s if is_lost else 0.0)
        self._last_due_s = due_s = max(due_s, self._last_due_s)
        self._queue.append((due_s, data))
        self.queued_bytes += len(data)
        if self.queued_bytes > path.buffer_bytes_max:
            self.room.clear()
        if self._timer is None:
            self._timer = self._loop.call_at(due_s, self._release)
        return True

    def close(self) -> None:
        """Drop what is under way."""
        if self._timer is not None:
            self._timer.cancel()
        self._queue.clear()

    def _release(self) -> None:
        self._timer = None
        while self._queue:
            due_s, data = self._queue[0]
            if due_s > self._loop.time() + _EARLY_S:
                self._timer = self._loop.call_at(due_s, self._release)
                return
            self._queue.popleft()
            self.queued_bytes -= len(data)
            if self.queued_bytes <= self._path_now().buffer_bytes_max:
                self.room.set()
            self._hand_on(data)


class _End(asyncio.DatagramProtocol):
    """One socket of a UDP proxy: puts what arrives on a way, sends what that way's other brings."""

    def __init__(self, peer: tuple[str, int] | None) -> None:
        self.peer = peer
        self.way: Way
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self.peer is None:
            self.peer = addr
        if addr == self.peer:
            self.way.put(data)

    def error_received(self, exc: Exception) -> None:
        """Nobody listens there: as lost as on a real network."""

    def send(self, data: bytes) -> None:
        if self.peer is not None and not self._transport.is_closing():
            self._transport.sendto(data, self.peer)

    def close(self) -> None:
        self.way.close()
        self._transport.close()


def udp_socket() -> socket.socket:
    """A UDP socket at any free port of this process's loopback."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((LOOPBACK, 0))
    return sock


def leave_network() -> None:
    """Go where there is nothing but a loopback of one's own; Linux, before any thread.

    QUIC finds the shortest way between two processes by itself: on one
    loopback it would go round every proxy.

    Raises:
        OSError: This system has no namespaces for us.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "no network namespace to be had")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def hand_out(channel_fd: int, *socks: socket.socket) -> None:
    """Give sockets of this process's network to the process behind `channel_fd`."""
    with socket.socket(fileno=channel_fd) as channel:
        socket.send_fds(channel, [b"s"], [sock.fileno() for sock in socks])
    for sock in socks:
        sock.close()


@contextlib.asynccontextmanager
async def slow_udp(
    port: int,
    path: Path,
    *,
    seed: int = 0,
    front: socket.socket | None = None,
    back: socket.socket | None = None,
) -> AsyncIterator[int]:
    """A UDP port that leads to `port` over `path`, while the context lasts; for one client.

    `front` is the socket the client sends to and `back` the one that sends to
    `port`; they are taken over. Made in two network namespaces, they are the
    only way between those.
    """
    loop, rng = asyncio.get_running_loop(), random.Random(seed)
    front, back = front or udp_socket(), back or udp_socket()
    near, far = _End(None), _End((LOOPBACK, port))
    near.way, far.way = Way(path, rng, far.send), Way(path, rng, near.send)
    await loop.create_datagram_endpoint(lambda: near, sock=front)
    await loop.create_datagram_endpoint(lambda: far, sock=back)
    try:
        yield int(front.getsockname()[1])
    finally:
        near.close()
        far.close()


@contextlib.asynccontextmanager
async def slow_tcp(
    port: int,
    path: AnyPath,
    *,
    seed: int = 0,
    front: socket.socket | None = None,
    brought: Callable[[int], None] = lambda _size: None,
) -> AsyncIterator[int]:
    """A TCP port that leads to `port` over `path`, while the context lasts.

    `front` is a listening socket, maybe of another network namespace, which is taken over.
    `brought` is told how many bytes come back from `port`, piece by piece.
    """
    rng = random.Random(seed)
    flows: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(flows) >= CLIENTS_MAX:
            writer.close()
            return
        flows[task] = [writer]
        try:
            behind, ahead = await asyncio.open_connection(LOOPBACK, port)
            flows[task].append(ahead)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_pump(reader, ahead, path, rng), name="slow tcp out")
                tasks.create_task(_pump(behind, writer, path, rng, brought), name="slow tcp back")
        except OSError:
            writer.transport.abort()
        finally:
            for end in flows.pop(task):
                end.close()

    front = front or socket.create_server((LOOPBACK, 0))
    server = await asyncio.start_server(serve, sock=front)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        # Not cancelled: the pumps end by themselves when their sockets are gone.
        for ends in flows.values():
            for end in ends:
                end.transport.abort()
        if flows:
            await asyncio.wait(set(flows), timeout=5)


async def _pump(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    path: AnyPath,
    rng: random.Random,
    brought: Callable[[int], None] = lambda _size: None,
) -> None:
    """Hand on what comes until its end, which is handed on in its turn."""
    ended = asyncio.Event()

    def hand_on(data: bytes) -> None:
        if not data:
            ended.set()
        elif not writer.is_closing():
            writer.write(data)

    way = Way(path, rng, hand_on)
    data = b"begin"
    while data:
        try:
            data = await reader.read(_READ_BYTES)
        except OSError:
            data = b""
        brought(len(data))
        way.put(data, reliable=True)
        await way.room.wait()
    await ended.wait()
    with contextlib.suppress(OSError):
        if writer.can_write_eof() and not writer.is_closing():
            writer.write_eof()
