"""The simulated network: connections between machines that delay, stall, break and lie.

A connection is a pair of `End`s, each an asyncio transport over which the product's own
links run. It keeps the order of bytes, as TCP does, and loses none while it stands;
what a cut way holds back arrives once the way is mended. TLS and the handshake are not
simulated: who dials names its key.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from dataclasses import dataclass
from typing import Any

from atoll.domain.address import HostPort
from atoll.domain.errors import LinkFault
from atoll.domain.ids import NodeId
from atoll.net.link import Kind, LinkSettings, NotWelcome, WrongPeer
from atoll.net.link_kinds import LINK_TYPES
from atoll.net.listener import Takers
from atoll.net.stream_link import StreamLink
from atoll.world.loop import SimLoop
from atoll.world.machine import Machine
from atoll.world.trace import Trace

HANDSHAKE_TRIPS = 3
"""One-way trips before a link stands: TCP's, TLS's, and the proof of the key."""
LIE_RATE = 0.05
"""How often a machine that lies does so with what it sends to a neighbour."""
FIRST_PORT = 20_000


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

    def __init__(self, net: Network, machine: Machine, kind: Kind, extra: dict[str, Any]) -> None:
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


@dataclass(slots=True, eq=False)
class Port:
    """An open port, and who takes links there."""

    machine: Machine
    place: HostPort
    node: NodeId
    takers: Takers
    settings: LinkSettings

    @property
    def host(self) -> str:
        """The address."""
        return self.place.host

    @property
    def port(self) -> int:
        """Its number."""
        return self.place.port


class Network:
    """All ways between machines.

    Args:
        loop: The clock.
        rng: Draws delays, and lies.
        trace: Told of all that arrives.
        machines: All there are.
        way_s: Mean of the time between two machines, one way.
        bytes_per_s: Of each way.
    """

    def __init__(
        self,
        loop: SimLoop,
        rng: random.Random,
        trace: Trace,
        machines: list[Machine],
        *,
        way_s: float,
        bytes_per_s: float = 12.5e6,
    ) -> None:
        self.loop, self.rng, self.trace = loop, rng, trace
        self.bytes_per_s = bytes_per_s
        self._way_s = way_s
        self._machines = {machine.host: machine for machine in machines}
        self._cut: set[tuple[str, str]] = set()
        self._ports: dict[HostPort, Port] = {}
        self._ends: dict[End, None] = {}
        self._mended = asyncio.Event()
        self._next_port = FIRST_PORT

    def delay_s(self, a: Machine, b: Machine) -> float:
        """How long something takes from one to the other."""
        jitter = self.rng.expovariate(1.0)
        return self._way_s * (0.7 + 0.3 * jitter) * max(a.slow, b.slow)

    def is_open(self, a: Machine, b: Machine) -> bool:
        """Whether what one sends reaches the other."""
        return (a.host, b.host) not in self._cut and a.powered and b.powered

    def cut(self, a: Machine, b: Machine) -> None:
        """Nothing gets from one to the other any more."""
        self._cut.add((a.host, b.host))

    def mend(self) -> None:
        """All ways are open again, but to machines without power."""
        self._cut.clear()
        self.look_again()

    def look_again(self) -> None:
        """Ways may have opened."""
        for end in list(self._ends):
            end.flush()
        self._mended.set()
        self._mended = asyncio.Event()

    def died(self, machine: Machine) -> None:
        """The processes of a machine are gone, and their ports."""
        self._ports = {at: p for at, p in self._ports.items() if p.machine is not machine}
        for end in [end for end in self._ends if end.machine is machine]:
            end.break_off()
            self.forget(end)

    def forget(self, end: End) -> None:
        """A connection's end is over."""
        self._ends.pop(end, None)

    def listen(
        self, machine: Machine, port: int, node: NodeId, takers: Takers, settings: LinkSettings
    ) -> Port:
        """Open a port; 0 takes any."""
        if not port:
            self._next_port += 1
            port = self._next_port
        opened = Port(machine, HostPort(machine.host, port), node, takers, settings)
        self._ports[opened.place] = opened
        return opened

    def close(self, port: Port) -> None:
        """Nobody listens there any more."""
        if self._ports.get(port.place) is port:
            del self._ports[port.place]

    @property
    def open_ends(self) -> int:
        """Ends of connections that stand."""
        return len(self._ends)

    async def dial(
        self,
        machine: Machine,
        place: HostPort | None,
        kind: Kind,
        *,
        me: NodeId,
        expected: NodeId,
        settings: LinkSettings,
    ) -> StreamLink:
        """A link of `machine` to a port, as `net.tls` makes them.

        Raises:
            LinkFault: As there.
        """
        if place is None:
            raise LinkFault("it has no address that can be dialed here")
        try:
            async with asyncio.timeout(settings.handshake_s):
                port = await self._reach(machine, place)
                if port.node != expected:
                    raise WrongPeer(f"the other side holds key {port.node[:12]}")
                refusal = port.machine.context.run(_objection, port.takers, me, kind)
                if refusal is not None:
                    await asyncio.sleep(self.delay_s(port.machine, machine))
                    raise NotWelcome(refusal.problem, hint=refusal.hint)
                near, _ = self._connect(machine, port, kind, me)
                try:
                    await asyncio.sleep(self.delay_s(port.machine, machine))
                except asyncio.CancelledError:
                    near.abort()
                    raise
                return LINK_TYPES[kind](near, expected, settings, b"")
        except TimeoutError:
            raise LinkFault(f"{place} did not answer within {settings.handshake_s:g} s") from None

    async def _reach(self, machine: Machine, place: HostPort) -> Port:
        while True:
            port = self._ports.get(place)
            there = port.machine if port is not None else self._machines.get(place.host)
            if there is not None and not (
                self.is_open(machine, there) and self.is_open(there, machine)
            ):
                await self._mended.wait()
                continue
            trips_s = sum(self.delay_s(machine, there or machine) for _ in range(HANDSHAKE_TRIPS))
            await asyncio.sleep(trips_s)
            port = self._ports.get(place)
            if port is None:
                raise LinkFault(f"nobody listens at {place}", hint="start the other side")
            if self.is_open(machine, port.machine) and self.is_open(port.machine, machine):
                return port

    def _connect(self, machine: Machine, port: Port, kind: Kind, me: NodeId) -> tuple[End, End]:
        self._next_port += 1
        here, there = (machine.host, self._next_port), (port.host, port.port)
        near = End(self, machine, kind, {"peername": there, "sockname": here})
        far = End(self, port.machine, kind, {"peername": here, "sockname": there})
        near.peer, far.peer = far, near
        self._ends[near] = self._ends[far] = None

        def take() -> None:
            port.takers.take(LINK_TYPES[kind](far, me, port.settings, b""))

        port.machine.context.run(take)
        return near, far


def _objection(takers: Takers, peer: NodeId, kind: Kind) -> LinkFault | None:
    try:
        takers.authorise(peer, kind)
    except LinkFault as fault:
        return fault
    return None
