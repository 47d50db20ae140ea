"""A connection between two simulated machines: a pair of ends that keep the order of bytes.

Each end is an asyncio transport, over which the product's own links run. What is sent
arrives after a while; what a cut way holds back arrives once the way is mended. Nothing
is lost while the connection stands.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

from atoll.net.link import Kind
from atoll.world.loop import SimLoop
from atoll.world.machine import Machine
from atoll.world.trace import Trace

LIE_RATE = 0.05
"""How often a machine that lies does so with what it sends to a neighbour."""


class Ways(Protocol):
    """What an end needs of the network."""

    loop: SimLoop
    rng: random.Random
    trace: Trace
    bytes_per_s: float

    def is_open(self, a: Machine, b: Machine) -> bool:
        """Whether what one sends reaches the other."""

    def delay_s(self, a: Machine, b: Machine) -> float:
        """How long something takes from one to the other."""

    def forget(self, end: End) -> None:
        """The end is over."""


@dataclass(frozen=True, slots=True)
class _Data:
    data: bytes


@dataclass(frozen=True, slots=True)
class _Fin:
    """The sender has closed."""


@dataclass(frozen=True, slots=True)
class _Reset:
    """The sender has aborted, or its process is gone."""


_Item = _Data | _Fin | _Reset


class End(asyncio.Transport):
    """One end of a connection. `peer` is set right after it is made."""

    peer: End

    def __init__(self, net: Ways, machine: Machine, kind: Kind, extra: dict[str, Any]) -> None:
        super().__init__(extra)
        self.net, self.machine, self.kind = net, machine, kind
        self._life = machine.life
        self._protocol: asyncio.BaseProtocol | None = None
        self._early: list[_Item] = []
        self._coming: deque[_Item] = deque()
        self._held: deque[_Item] = deque()
        self._held_bytes = 0
        self._arrives_s = 0.0
        self._kept: bytes | None = None
        self._closing = self._gone = self._lost = False

    @property
    def is_dead(self) -> bool:
        """Whether the process that had it is gone."""
        return not self.machine.alive or self.machine.life != self._life

    # What a protocol does with it

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand on what comes to this one, with what came before."""
        self._protocol = protocol
        early, self._early = self._early, []
        for item in early:
            self.net.loop.call_soon(self._take, item, context=self.machine.context)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Who takes what comes."""
        assert self._protocol is not None
        return self._protocol

    def is_closing(self) -> bool:
        """Whether it was closed here."""
        return self._closing

    def get_write_buffer_size(self) -> int:
        """Bytes that a cut way holds back."""
        return self._held_bytes

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes; a machine that lies may send them twice, late or spoilt."""
        if self._closing or self.is_dead:
            return
        for piece in self._told(bytes(data)):
            self._send(_Data(piece))

    def close(self) -> None:
        """Send what waits, then end."""
        if self._closing:
            return
        self._closing = True
        self._send(_Fin())
        if not self._held:
            self._lose(None)

    def abort(self) -> None:
        """End now; what waits is lost."""
        self._closing = True
        self._held.clear()
        self._held_bytes = 0
        if not self._gone:
            self._send(_Reset())
        self._lose(None)

    # The way

    def flush(self) -> None:
        """The way may be open again."""
        while self._held and self.net.is_open(self.machine, self.peer.machine):
            item = self._held.popleft()
            if isinstance(item, _Data):
                self._held_bytes -= len(item.data)
            self._depart(item)
        if self._closing and not self._held:
            self._lose(None)

    def break_off(self) -> None:
        """The process at this end is gone: the other end is told by its system, if it has power."""
        self._gone = True
        self._held.clear()
        self._held_bytes = 0
        if self.machine.powered:
            self._depart(_Reset())

    def _send(self, item: _Item) -> None:
        if self._gone:
            return
        self._gone = not isinstance(item, _Data)
        if self._held or not self.net.is_open(self.machine, self.peer.machine):
            self._held.append(item)
            if isinstance(item, _Data):
                self._held_bytes += len(item.data)
            return
        self._depart(item)

    def _depart(self, item: _Item) -> None:
        net, peer = self.net, self.peer
        at_s = net.loop.time() + net.delay_s(self.machine, peer.machine)
        if isinstance(item, _Data):
            at_s += len(item.data) / net.bytes_per_s
        self._arrives_s = max(self._arrives_s, at_s)
        # Timers of one moment fire in any order; what arrives keeps its own.
        peer._coming.append(item)
        net.loop.call_at(self._arrives_s, peer._arrived, context=peer.machine.context)

    def _arrived(self) -> None:
        self._take(self._coming.popleft())

    def _take(self, item: _Item) -> None:
        if self.is_dead or self._lost or self._closing:
            # A machine that lost its power says nothing; the next life knows of no connection.
            if isinstance(item, _Data) and self.machine.powered and self.is_dead:
                self._depart(_Reset())
            return
        if self._protocol is None:
            self._early.append(item)
            return
        assert isinstance(self._protocol, asyncio.Protocol)
        match item:
            case _Data(data):
                self.net.trace.bytes_arrived(self.machine.name, data)
                self._protocol.data_received(data)
            case _Fin():
                self._protocol.eof_received()
                self._closing = self._gone = True
                self._lose(None)
            case _Reset():
                self._closing = self._gone = True
                self._lose(ConnectionResetError("connection reset by peer"))

    def _lose(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = True
        self.net.forget(self)
        if self._protocol is not None:
            self.net.loop.call_soon(
                self._protocol.connection_lost, error, context=self.machine.context
            )

    def _told(self, data: bytes) -> list[bytes]:
        """What leaves in place of `data`: a flight of whole frames, once the link stands."""
        kept, self._kept = self._kept, None
        pieces = [data] if kept is None else [data, kept]
        if not self.machine.lies or self.kind != "data":
            return pieces
        rng = self.net.rng
        if rng.random() >= LIE_RATE:
            return pieces
        lie = rng.choice(("duplicate", "reorder", "spoil"))
        self.net.trace.fault(lie, f"{self.machine.name} sends to {self.peer.machine.name}")
        if lie == "duplicate":
            return [*pieces, data]
        if lie == "reorder" and kept is None:
            self._kept = data
            return []
        # Not in the rows: nobody could tell false ones from true ones here.
        at = rng.randrange(8 + int.from_bytes(data[:4], "big"))
        spoilt = bytes([*data[:at], data[at] ^ (1 << rng.randrange(8)), *data[at + 1 :]])
        return [spoilt, *pieces[1:]]
