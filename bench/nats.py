"""How soon two machines behind two routers have a link, and how soon a direct one.

`run()` lays out an internet of network namespaces: a host with a gateway and a
relay, and two homes whose routers translate addresses. Both peers are told by
the gateway where it sees their UDP ports, as nodes are; then one dials the
other at that address and at the relay, as a node dials its neighbour.
`relayed_s` is the time from the dial until the link stands, `direct_s` until it
goes by no relay. With ports that the routers draw by chance (`random_*`) it
stays relayed. The namespaces add no delay: what is measured is our own work and
waiting, to which a real network adds its round trips. Linux and root; without,
`run` says what is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import time
from typing import Any

import uvloop
from tests.support.namespaces import Host, Internet, open_internet, why_no_internet

from atoll.domain.address import Address, HostPort
from atoll.domain.control import ControlMessage, Join, Welcome
from atoll.domain.errors import LinkFault
from atoll.domain.ids import NodeId
from atoll.members.member import outside_of
from atoll.net.identity import Identity
from atoll.net.iroh_endpoint import IrohEndpoint
from atoll.net.iroh_terms import outside_address
from atoll.net.link import ControlInbox, ControlLink, DataLink
from atoll.net.listener import Takers
from atoll.net.relay import open_relay
from atoll.net.transport import open_transport

ROUNDS = 5
ROUNDS_RANDOM = 2
ROUND_S = 40
DIRECT_S = 3.0
"""How long a link may take to become direct before it counts as relayed for good."""
_LOOK_S = 0.005
_RELAY_PORT, _GATEWAY_PORT = 8644, 8643
_ANYWHERE = "0.0.0.0"


class _Greeter:
    """Tells whoever introduces himself where he is seen, as the fleet does."""

    def __init__(self, link: ControlLink) -> None:
        self._link = link

    def on_message(self, _message: ControlMessage) -> None:
        self._link.send(Welcome("peer", outside_of(self._link)))

    def on_closed(self, reason: LinkFault | None) -> None:
        """The peer is done."""


async def _middle() -> None:
    """The gateway and the relay; tells the gateway's key."""
    identity = Identity.generate()
    async with (
        open_relay(_ANYWHERE, _RELAY_PORT, is_member=lambda _node: True),
        open_transport(identity, way="quic", host=_ANYWHERE, port=_GATEWAY_PORT) as transport,
        transport.listen(
            _ANYWHERE,
            _GATEWAY_PORT,
            Takers(lambda _peer, _kind: None, on_control=lambda link: link.start(_Greeter(link))),
        ),
    ):
        _say(key=identity.node_id)
        await _heard()


async def _peer(told: dict[str, Any]) -> None:
    """One of the two: learns where it is, then waits to be dialled, or dials."""
    relay = f"http://{told['middle']}:{_RELAY_PORT}/"
    taken: asyncio.Queue[DataLink] = asyncio.Queue()
    identity = Identity.generate()
    async with (
        open_transport(identity, way="quic", host=_ANYWHERE, relays=[relay]) as transport,
        transport.listen(_ANYWHERE, 0, Takers(lambda _peer, _kind: None, on_data=taken.put_nowait)),
    ):
        assert transport.endpoint is not None
        gateway = Address(quic=(HostPort(told["middle"], _GATEWAY_PORT),))
        control = await transport.dial_control(gateway, expected=NodeId(told["key"]))
        await _learn(control, transport.endpoint)
        async with asyncio.timeout(20):
            await transport.endpoint.wait_relayed()
        places = [str(place) for place in transport.endpoint.addresses]
        _say(key=identity.node_id, places=places)
        wanted = await _heard()
        if wanted:
            place = Address(None, tuple(map(HostPort.parse, wanted["places"])), relay)
            began_s = time.perf_counter()
            link = await transport.dial_data(place, expected=NodeId(wanted["key"]))
            stands_s = time.perf_counter() - began_s
            _say(relayed_s=stands_s, direct_s=await _until_direct(link, began_s))
            await _heard()
        control.close()


async def _learn(control: ControlLink, endpoint: IrohEndpoint) -> None:
    """Introduce this peer, and take note of where the gateway sees it."""
    inbox = ControlInbox(control)
    control.send(Join("", "peer", Address(), "", "", 0, ""))
    async with asyncio.timeout(10):
        async for message in inbox:
            if isinstance(message, Welcome):
                await endpoint.add_outside_address(HostPort.parse(message.outside))
                return
    raise LinkFault("the gateway told no outside address")


async def _until_direct(link: DataLink, began_s: float) -> float | None:
    """When `link` went by no relay any more; None if it does not come to that."""
    connection = link._transport._connection  # type: ignore[attr-defined]
    while outside_address(connection) is None:
        if time.perf_counter() - began_s > DIRECT_S:
            return None
        await asyncio.sleep(_LOOK_S)
    return time.perf_counter() - began_s


def _say(**words: Any) -> None:
    print(json.dumps(words), flush=True)


async def _heard() -> Any:
    """The next line of the parent, read in a thread; None at the end."""
    line = await asyncio.to_thread(sys.stdin.readline)
    return json.loads(line) if line.strip() else None


class _Child:
    """A process on a host of the emulated internet, with which we speak in lines."""

    def __init__(self, host: Host, role: str, **told: Any) -> None:
        words = (sys.executable, "-m", "bench.nats", role, json.dumps(told))
        self._process = subprocess.Popen(
            host.command(*words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def heard(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a process of the benchmark ended early")
        found: dict[str, Any] = json.loads(line)
        return found

    def tell(self, words: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=10)
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


def _round(internet: Internet, middle: Host, key: str, *, random_ports: bool) -> dict[str, Any]:
    """One dial between two fresh homes."""
    homes = [internet.home(random_ports=random_ports) for _ in range(2)]
    with contextlib.ExitStack() as stack:
        peers = []
        for home in homes:
            child = _Child(home, "peer", middle=middle.address, key=key)
            stack.callback(child.close)
            peers.append(child)
        first, second = peers
        second.heard()
        first_said = first.heard()
        second.tell(first_said)
        return second.heard()


def _median(found: list[float | None]) -> float | None:
    """Of the rounds' seconds; None if one of them never came about."""
    known = [value for value in found if value is not None]
    return round(statistics.median(known), 3) if len(known) == len(found) else None


def run(rounds: int = ROUNDS) -> dict[str, Any]:
    """Seconds from the dial until the link stands and until it is direct; medians."""
    reason = why_no_internet()
    if reason:
        return {"skipped": reason}
    found: dict[str, Any] = {"rounds": rounds}
    with open_internet() as internet, contextlib.ExitStack() as stack:
        middle = internet.host()
        child = _Child(middle, "middle")
        stack.callback(child.close)
        key = child.heard()["key"]
        for random_ports, prefix in ((False, ""), (True, "random_")):
            count = min(rounds, ROUNDS_RANDOM) if random_ports else rounds
            seen = [_round(internet, middle, key, random_ports=random_ports) for _ in range(count)]
            for name in ("relayed_s", "direct_s"):
                found[prefix + name] = _median([one[name] for one in seen])
    return found


def _child() -> None:
    role, told = sys.argv[1], json.loads(sys.argv[2])
    work = _middle() if role == "middle" else asyncio.wait_for(_peer(told), ROUND_S)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        _child()
    else:
        print(json.dumps(run(), indent=2))
