"""A gateway as a process of its own that can be told how far away its ring is.

`python -m bench.far_gateway SETTING`: what `atoll serve` runs, but for one thing. Nodes
say at which port they are dialled, and the benchmark's proxies are elsewhere; so the
parent tells, for each distance, which ports the next ring is to be linked over, and the
ring is formed anew.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from atoll.domain.address import Address, HostPort
from atoll.engine.threads import SHARED_SPIN, shorten_slices
from atoll.gateway.casting import Cast, Times
from atoll.gateway.options import RingOptions, ServeOptions
from atoll.gateway.serve import Gateway, open_gateway
from atoll.members.member import Member
from atoll.store.layout import Store
from bench.children import heard, say
from bench.slow_net import LOOPBACK

READY_S = 120.0
POLL_S = 0.02


class Setting(msgspec.Struct, frozen=True):
    """What gateway to run.

    `seen_port` is where nodes dial the port `link_port`; `more` are further options of
    the ring, by name.
    """

    model: str
    store: str
    home: str
    nodes: int
    streams: int
    context: int
    threads: int
    link_port: int
    seen_port: int
    more: dict[str, Any] = {}


class Ways(msgspec.Struct, frozen=True):
    """Over which ports the next ring is linked: of the nodes by name, and of the gateway."""

    nodes: dict[str, int]
    gateway: int


def ring_options(setting: Setting) -> RingOptions:
    """As `atoll serve --plan equal --rings 1` has them."""
    return RingOptions(
        nodes=setting.nodes,
        streams=setting.streams,
        context=setting.context,
        threads=setting.threads,
        threads_large=setting.threads,
        spin=SHARED_SPIN,
        gpu="none",
        plan="equal",
        rings=1,
        **setting.more,
    )


class _Linked:
    """Has each ring linked over the ports that were told last."""

    def __init__(self, gateway: Gateway) -> None:
        self._conductor = gateway.conductor
        self._cast = self._conductor._caster.cast
        self._ports: dict[str, int] = {}
        self._conductor._caster.cast = self.cast  # type: ignore[method-assign]

    async def cast(
        self, free: Sequence[Member], times: Times | None, *, rings_max: int, fewer: bool = False
    ) -> tuple[Cast, ...]:
        """In the caster's place: its choice, dialled where we say."""
        casts = await self._cast(free, times, rings_max=rings_max, fewer=fewer)
        for member in (member for cast in casts for member in cast.members):
            if member.name in self._ports:
                place = HostPort(LOOPBACK, self._ports[member.name])
                member.join = msgspec.structs.replace(member.join, address=Address(tls=place))
        return casts

    async def form(self, ways: Ways) -> None:
        """Have the ring formed anew over these."""
        conductor = self._conductor
        assert conductor._reach is not None
        self._ports = ways.nodes
        conductor._reach = dataclasses.replace(conductor._reach, link_port=ways.gateway)
        [ring] = conductor.rings
        before = ring.plan.epoch if ring.plan else None
        ring.rearrange()
        await wait_ready(lambda: bool(ring.driver and ring.plan and ring.plan.epoch != before))


async def wait_ready(is_ready: Callable[[], bool]) -> None:
    """Until it is; another process gets ready, and only looking tells.

    Raises:
        TimeoutError: It never was.
    """
    deadline_s = time.monotonic() + READY_S
    while not is_ready():
        if time.monotonic() > deadline_s:
            raise TimeoutError("no ring")
        await asyncio.sleep(POLL_S)


async def _serve(setting: Setting) -> None:
    store, home = Store(Path(setting.store)), Path(setting.home)
    shorten_slices()
    options = ServeOptions(
        ring_options(setting),
        home / "join",
        port=0,
        link_port=setting.link_port,
        advertise=(HostPort(LOOPBACK, setting.seen_port),),
        way="tls",
        auth=False,
    )
    model = store.resolve(setting.model)
    async with open_gateway(model, store, home, options, tell=lambda _line: None) as gateway:
        linked = _Linked(gateway)
        name = gateway.conductor.card.name
        say(url=gateway.url, model=name, join_files=[str(path) for path in gateway.join_files])
        await wait_ready(lambda: gateway.conductor.health().ready)
        say(ready=True)
        while told := await heard():
            await linked.form(msgspec.convert(told, Ways))
            say(ready=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(msgspec.json.decode(sys.argv[1], type=Setting)))
