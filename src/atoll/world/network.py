"""The simulated network: who reaches whom, how soon, and which ports are open.

TLS and the handshake are not simulated: who dials names its key.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass

from atoll.domain.address import HostPort
from atoll.domain.errors import LinkFault
from atoll.domain.ids import NodeId
from atoll.net.link import Kind, LinkSettings, NotWelcome, WrongPeer
from atoll.net.link_kinds import LINK_TYPES
from atoll.net.listener import Takers
from atoll.net.stream_link import StreamLink
from atoll.world.connection import End
from atoll.world.loop import SimLoop
from atoll.world.machine import Machine
from atoll.world.trace import Trace

HANDSHAKE_TRIPS = 3
"""One-way trips before a link stands: TCP's, TLS's, and the proof of the key."""
FIRST_PORT = 20_000


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
        self._cuts: Counter[tuple[str, str]] = Counter()
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
        return not self._cuts[a.host, b.host] and a.powered and b.powered

    def cut(self, a: Machine, b: Machine) -> None:
        """Nothing gets from one to the other any more."""
        self._cuts[a.host, b.host] += 1

    def mend(self, a: Machine, b: Machine) -> None:
        """One of the cuts is mended; what it held back goes on its way."""
        self._cuts[a.host, b.host] -= 1
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
