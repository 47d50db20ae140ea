"""One stream of a QUIC connection, as asyncio's transports are.

A link is one connection with one stream in both directions. A data link's
dialer opens one more, once, whose bytes are thrown away: the connection's
congestion window grows on them, which it never does on the small windows of a
ring. Any further stream ends the connection.

A pending read of `iroh` that is cancelled loses bytes, so none ever is: reads
end with the stream or with the connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

from atoll.net import iroh_patch
from atoll.net.iroh_terms import outside_address, said
from atoll.net.link import peer_text

if TYPE_CHECKING:
    import iroh

log = logging.getLogger(__name__)

WARM_BYTES = 2 * 1024 * 1024
"""What a dialer sends once on a data link to open the congestion window."""
_WARM_PIECE_BYTES = 128 * 1024
_WARM_PRIORITY = -10
_READ_BYTES = 256 * 1024
_LAST_WORDS_S = 5.0
"""How long the other side, which ended its stream, may take for the end of ours."""
_DONE, _ABORTED, _TOO_MANY_STREAMS = 0, 1, 2
"""Codes a connection is closed with; nobody decides anything by them."""


class IrohStream(asyncio.Transport):
    """The transport of one link; `run` it in a task after a protocol was set."""

    def __init__(
        self, connection: iroh.Connection, pair: iroh.BiStream, *, warms: bool, warmed: bool
    ) -> None:
        """Take over a connection whose stream `pair` stands.

        `warms`: open the stream that warms the connection; `warmed`: take one.
        """
        super().__init__({"peername": outside_address(connection), "carrier": "quic"})
        self._iroh_error: type[Exception] = iroh_patch.load().IrohError
        self._connection = connection
        self._send, self._recv = pair.send(), pair.recv()
        self._warms, self._warmed = warms, warmed
        self._loop = asyncio.get_running_loop()
        self._protocol: asyncio.Protocol
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._wake = asyncio.Event()
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._closing = False
        self._problem = ""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Who is told what arrives."""
        self._protocol = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Who is told what arrives."""
        return self._protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send `data` behind what waits already, without waiting."""
        if self._closing or not data:
            return
        self._waiting.append(bytes(data))
        self._waiting_bytes += len(data)
        self._wake.set()

    def get_write_buffer_size(self) -> int:
        """Bytes that the connection has not taken yet."""
        return self._waiting_bytes

    def is_closing(self) -> bool:
        """Whether nothing more is taken to be sent."""
        return self._closing

    def pause_reading(self) -> None:
        """Take nothing more after the read that is pending; the sender will wait."""
        self._may_read.clear()

    def resume_reading(self) -> None:
        """Go on taking."""
        self._may_read.set()

    def close(self) -> None:
        """Write what waits, then end the stream and the connection."""
        self._closing = True
        self._wake.set()
        self._may_read.set()

    def abort(self) -> None:
        """End the connection at once."""
        self._give_up(_ABORTED, "")

    def _give_up(self, code: int, problem: str) -> None:
        self._problem = self._problem or problem
        self._waiting.clear()
        self._waiting_bytes = 0
        self.close()
        self._connection.close(code, problem.encode())

    async def run(self) -> None:
        """Read and write until the connection is gone, then tell the protocol."""
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(self._write_on(), name="iroh write")
            for extra in self._extras():
                tasks.create_task(extra, name="iroh extra stream")
            lost = await self._read_on(writing)
        self._protocol.connection_lost(lost)

    def _extras(self) -> list[Any]:
        """What is done about streams beside the link's own."""
        connection = self._connection
        extras = [self._refuse_more(connection.accept_bi)]
        if self._warmed:
            extras.append(self._take_warming())
        else:
            extras.append(self._refuse_more(connection.accept_uni))
        if self._warms:
            extras.append(self._warm())
        return extras

    async def _read_on(self, writing: asyncio.Task[None]) -> Exception | None:
        """Deliver all that comes; why the connection ended, None if it was closed."""
        read, may_read = self._recv.read, self._may_read
        try:
            while data := await read(_READ_BYTES):
                self._tell(self._protocol.data_received, data)
                if not may_read.is_set():
                    await may_read.wait()
            self._tell(self._protocol.eof_received)
            self.close()
            # When they have all of ours as we have theirs, nothing is lost by closing.
            await asyncio.wait([writing], timeout=_LAST_WORDS_S)
            self._connection.close(_DONE, b"")
        except self._iroh_error as error:
            reason = self._connection.close_reason() or said(error)
            self._give_up(_ABORTED, "")
            if self._problem:
                return ConnectionError(self._problem)
            if not reason.startswith("closed"):
                return ConnectionError(peer_text(reason, 300))
        return ConnectionError(self._problem) if self._problem else None

    def _tell(self, callback: Callable[..., object], *args: bytes) -> None:
        try:
            callback(*args)
        except Exception as error:  # noqa: BLE001 - the loop's handler reports it, as for TLS
            self._loop.call_exception_handler(
                {"message": "a protocol failed", "exception": error, "protocol": self._protocol}
            )

    async def _write_on(self) -> None:
        """Send what was written, all that waits at once; at the end wait until it is taken."""
        try:
            while True:
                while self._waiting:
                    data = b"".join(self._waiting)
                    self._waiting.clear()
                    await self._send.write_all(data)
                    self._waiting_bytes = max(0, self._waiting_bytes - len(data))
                if self._closing:
                    break
                self._wake.clear()
                await self._wake.wait()
            await self._send.finish()
            await self._send.stopped()
        except self._iroh_error as error:
            log.debug("iroh.write_ended problem=%s", said(error))
            self._give_up(_ABORTED, "")

    async def _refuse_more(self, accept: Callable[[], Awaitable[object]]) -> None:
        """End the connection if another stream comes."""
        try:
            await accept()
        except self._iroh_error:
            return  # it ended without
        self._give_up(_TOO_MANY_STREAMS, "it opened more streams than a link has")

    async def _take_warming(self) -> None:
        """Throw away what the one stream beside the link's brings, within bounds."""
        try:
            stream = await self._connection.accept_uni()
            left = WARM_BYTES
            while data := await stream.read(_READ_BYTES):
                left -= len(data)
                if left < 0:
                    self._give_up(_TOO_MANY_STREAMS, "it sent more to warm the link than it may")
        except self._iroh_error:
            return
        await self._refuse_more(self._connection.accept_uni)

    async def _warm(self) -> None:
        """Open the congestion window: windows of a ring are too small to do that."""
        try:
            stream = await self._connection.open_uni()
            await stream.set_priority(_WARM_PRIORITY)
            piece = bytes(_WARM_PIECE_BYTES)
            for _ in range(WARM_BYTES // len(piece)):
                await stream.write_all(piece)
            await stream.finish()
        except self._iroh_error as error:
            log.debug("iroh.warming_ended problem=%s", said(error))
