"""A link over one ordered, authenticated stream of bytes: frames, heartbeats, the end.

What carries the bytes, TLS over TCP or a stream of QUIC, is asyncio's transport
to it; what the kinds say is in `link_kinds`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import ClassVar

from atoll.domain.control import CONTROL_BYTES_MAX
from atoll.domain.errors import LinkFault
from atoll.domain.ids import NodeId
from atoll.net.link import Kind, LinkLost, LinkSettings, peer_text

log = logging.getLogger(__name__)

EARLY_BYTES_MAX = 2 * CONTROL_BYTES_MAX
"""What may arrive before the start; data links carry no window without a grant."""
PARTING_CHARS_MAX = 500
"""Of a reason that is told to the other side, or told by it."""
LOOKS = 2
"""In each beat's time a link looks so often whether something came."""
DOUBTED_MAX = 2
"""Beats that may be missed in a row on a link that is doubted."""


class StreamLink(asyncio.Protocol):
    """What all kinds of link share; made by `tls` and `iroh_endpoint`, not by hand.

    It takes over a connection whose handshake is done, keeps what arrives until
    the link is started, and owns the link's heartbeat.
    """

    kind: ClassVar[Kind]

    def __init__(
        self, transport: asyncio.Transport, peer: NodeId, settings: LinkSettings, early: bytes
    ) -> None:
        self._transport = transport
        self._peer = peer
        self._settings = settings
        self._buffer_bytes_max = settings.buffer_bytes_max
        self._early = bytearray(early)
        self._taken = False
        self._started = False
        self._heard = True
        self._missed = 0
        self._looks = self._beats = 0
        self._sent_bytes = 0
        self._ending = False
        self._lost_early: LinkFault | None = None
        self._reason: LinkFault | None = None
        self._loop = asyncio.get_running_loop()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        address = transport.get_extra_info("peername")
        self._peer_host = str(address[0]) if address else ""
        self._peer_port = int(address[1]) if address else 0
        self._carrier = str(transport.get_extra_info("carrier") or "tls")
        own = transport.get_extra_info("sockname")
        self._local_host = str(own[0]) if own else ""
        transport.set_protocol(self)
        self._start_timer: asyncio.TimerHandle | None = self._loop.call_later(
            settings.handshake_s, self._never_started
        )
        self._timer = self._loop.call_later(settings.heartbeat_s / LOOKS, self._tick)

    @property
    def peer(self) -> NodeId:
        """Whose key the other side proved to hold."""
        return self._peer

    @property
    def peer_host(self) -> str:
        """The address the other side has, seen from here."""
        return self._peer_host

    @property
    def carrier(self) -> str:
        """What carries it: "tls" or "quic"."""
        return self._carrier

    @property
    def peer_port(self) -> int:
        """The port that the other side has, seen from here; 0 if it is not known."""
        return self._peer_port

    @property
    def local_host(self) -> str:
        """The address that this side has on the link."""
        return self._local_host

    @property
    def is_closed(self) -> bool:
        """Whether nothing more can be sent."""
        return self._ending or self._lost_early is not None

    @property
    def buffered_bytes(self) -> int:
        """Bytes still to be written."""
        return 0 if self.is_closed else self._transport.get_write_buffer_size()

    @property
    def sent_bytes(self) -> int:
        """Bytes that were given to this link to be written, since it stands."""
        return self._sent_bytes

    def close(self, reason: LinkFault | None = None) -> None:
        """Stop at once to deliver; write what waits, tell the peer `reason`, then end."""
        if self._ending:
            return
        if reason is not None:
            self._transport.write(self._parting(reason))
        self._end(reason)
        self._close_transport()

    def doubt(self) -> None:
        """Give the link up if it was silent for some beats: more speaks for that than silence."""
        if self._started and not self._ending and self._missed >= DOUBTED_MAX * LOOKS:
            self._was_silent(DOUBTED_MAX)

    async def wait_closed(self) -> LinkFault | None:
        """Wait until the link is gone; why, or None where we closed it ourselves."""
        await asyncio.shield(self._gone)
        return self._reason or self._lost_early

    # What the kinds do differently.

    def _beat(self, count: int) -> bytes:
        raise NotImplementedError

    def _parting(self, reason: LinkFault) -> bytes:
        raise NotImplementedError

    def _deliver(self, data: bytes) -> None:
        raise NotImplementedError

    def _tell_closed(self, reason: LinkFault | None) -> None:
        raise NotImplementedError

    # asyncio calls these.

    def data_received(self, data: bytes) -> None:
        """Hand on what arrived, or keep it until the start."""
        self._heard = True
        if self._ending:
            return
        if not self._started:
            self._early += data
            if len(self._early) > EARLY_BYTES_MAX:
                self._abort(LinkFault("the other side sends more than may wait for the start"))
            return
        try:
            self._deliver(data)
        except LinkFault as fault:
            log.warning("link.fault peer=%s kind=%s problem=%s", self._peer, self.kind, fault)
            self.close(fault)
        except Exception:
            # A mistake of ours in a handler: its state is unknown, so the link
            # must not go on. The loop reports the error itself.
            self._abort(LinkFault("this side failed on a frame", hint="its log says why"))
            raise

    def eof_received(self) -> None:
        """The peer ended it: nothing more can come."""
        self._lost(LinkLost("the other side closed the link"))

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, for whatever reason."""
        if exc is None:
            self._lost(LinkLost("the other side closed the link"))
        else:
            self._lost(LinkLost(f"the connection broke: {exc}"))
        if not self._gone.done():
            self._gone.set_result(None)

    # Inside.

    def _write(self, data: bytes) -> bool:
        if self.is_closed:
            return False
        transport = self._transport
        self._sent_bytes += len(data)
        transport.write(data)
        if transport.get_write_buffer_size() > self._buffer_bytes_max:
            self._abort(
                LinkLost(
                    f"the other side stopped reading: over {self._buffer_bytes_max} bytes wait"
                )
            )
            return False
        return True

    def _begin(self) -> None:
        if self._taken:
            raise RuntimeError("the link was started already")
        self._taken = True
        if self._start_timer is not None:
            self._start_timer.cancel()
            self._start_timer = None
        # From the loop, not from here: the caller may not be ready yet.
        self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        self._started = True
        if self._ending:
            self._tell_closed(self._reason)
            return
        early, self._early = bytes(self._early), bytearray()
        if early:
            self.data_received(early)
        if self._lost_early is not None:
            self._end(self._lost_early)

    def _tick(self) -> None:
        settings = self._settings
        self._missed = 0 if self._heard else self._missed + 1
        self._heard = False
        if self._missed >= settings.missed_max * LOOKS:
            self._was_silent(settings.missed_max)
            return
        self._looks += 1
        if self._looks % LOOKS == 0:
            self._beats += 1
            if not self._write(self._beat(self._beats)):
                return
        self._timer = self._loop.call_later(settings.heartbeat_s / LOOKS, self._tick)

    def _was_silent(self, beats: int) -> None:
        silent_s = self._settings.heartbeat_s * beats
        self._abort(LinkLost(f"the other side was silent for {silent_s:g} s"))

    def _never_started(self) -> None:
        self._start_timer = None
        self._abort(LinkFault("nobody took the link"))

    def _lost(self, reason: LinkFault) -> None:
        if self._started:
            self._end(reason)
        elif not self._ending and self._lost_early is None:
            # What came before the end is still to be delivered: a node that is
            # refused right after its link stood must hear why.
            self._lost_early = reason
            self._timer.cancel()

    def _abort(self, reason: LinkFault) -> None:
        self._end(reason)
        self._transport.abort()

    def _part(self, problem: str) -> None:
        """The other side closes the link and says why."""
        self._end(
            LinkLost(f"the other side closed the link: {peer_text(problem, PARTING_CHARS_MAX)}")
        )
        self._close_transport()

    def _close_transport(self) -> None:
        """Write what waits and end the connection properly, for at most `close_s`."""
        if not self._transport.is_closing():
            self._transport.close()
        if not self._gone.done():
            guard = self._loop.call_later(self._settings.close_s, self._transport.abort)
            self._gone.add_done_callback(lambda _gone: guard.cancel())

    def _end(self, reason: LinkFault | None) -> None:
        if self._ending:
            return
        self._ending = True
        self._reason = reason
        self._early.clear()
        self._timer.cancel()
        if self._start_timer is not None:
            self._start_timer.cancel()
            self._start_timer = None
        if self._started:
            # Not from within a send: the caller's state may be half changed.
            self._loop.call_soon(self._tell_closed, reason)
