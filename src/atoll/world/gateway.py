"""The gateway of a simulated world: the product's conductor and fleet, life after life."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from atoll.domain.address import HostPort
from atoll.domain.errors import AtollError, EngineFault
from atoll.engine.ends_client import EndsProcess
from atoll.engine.ends_messages import ItemsDone
from atoll.engine.parcel_messages import ParcelAnswer
from atoll.gateway.casting import Caster
from atoll.gateway.conductor import Conductor
from atoll.gateway.ground import Ground
from atoll.gateway.options import RingOptions
from atoll.gateway.shard_book import ShardBook
from atoll.members.fleet import Fleet
from atoll.members.measuring import Measuring
from atoll.net.identity import Identity
from atoll.net.link import LinkSettings
from atoll.net.listener import Takers
from atoll.node.keeping import Keeping
from atoll.world.engines import Process, SimEnds
from atoll.world.machine import Machine
from atoll.world.model import (
    ENDS,
    MODEL,
    N_EMBD,
    ROWS_MAX,
    NoStore,
    ends_options,
    make_manifest,
    measure_order,
)
from atoll.world.network import Network
from atoll.world.register import SimRegister, join_files
from atoll.world.scenario import Scenario
from atoll.world.transport import SimTransport

PORT = 8643
RESTART_S = 1.0
"""How long the service waits before it starts the gateway again."""
STALL_S = 4.0
REST_S = 12.0
OUTAGE_S = 90.0


def ring_options(scenario: Scenario) -> RingOptions:
    """What the operator chose."""
    return RingOptions(
        nodes=scenario.places,
        plan="auto" if scenario.planned else "equal",
        ends=ENDS,
        streams=scenario.streams,
        context=scenario.context,
        rows_max=ROWS_MAX,
        chunk_rows=8,
        waiting=scenario.waiting,
        stall_s=STALL_S,
        exact=scenario.exact,
        gpu="none",
        rings=scenario.rings,
        speculate="lookup" if scenario.guesses else "none",
        reuse=scenario.reuse,
        keeping=Keeping(ram_bytes=scenario.keeps_bytes),
        rest_s=REST_S,
        outage_s=OUTAGE_S,
    )


class SimGateway:
    """One gateway; `conductor` and `fleet` are those of its present life.

    Args:
        scenario: The run's.
        net: All ways.
        machine: Where it runs.
        identity: Its key.
        rng: Draws how long its engine takes.
    """

    def __init__(
        self,
        scenario: Scenario,
        net: Network,
        machine: Machine,
        identity: Identity,
        rng: random.Random,
    ) -> None:
        self.scenario, self._net, self.machine = scenario, net, machine
        self.identity, self._rng = identity, rng
        self.register = SimRegister(machine)
        self.options = ring_options(scenario)
        self.manifest = make_manifest(scenario.n_layers)
        self.conductor: Conductor | None = None
        self.fleet: Fleet | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._incarnation = 0
        self.downs: list[tuple[float, str]] = []
        """When a ring broke, and what was said of it."""

    @property
    def place(self) -> HostPort:
        """Where nodes find it."""
        return HostPort(self.machine.host, PORT)

    def start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None] | None:
        """Run something as long as this life lasts; None: it does not live."""
        if self._tasks is None:
            work.close()
            return None
        return self._tasks.create_task(work, name=name)

    async def live(self) -> None:
        """Serve until cancelled; where it cannot, its service starts it again."""
        while True:
            try:
                await self._serve()
            except AtollError as error:
                self._tell(f"ended: {error.problem}")
            await asyncio.sleep(RESTART_S)

    async def _serve(self) -> None:
        measuring = Measuring(measure_order(self.manifest) if self.scenario.planned else None)
        fleet = Fleet(self.options.nodes, self.register, measuring, tell=self._tell)
        conductor = self._make_conductor(fleet)
        takers = Takers(conductor.authorise, on_control=fleet.on_control, on_data=conductor.on_data)
        transport = SimTransport(self._net, self.machine, self.identity, LinkSettings())
        async with transport.listen(self.machine.host, PORT, takers):
            conductor.open(transport, PORT)
            fleet.memory.own.open(transport)
            fleet.open(join_files(self.register, self.identity.node_id, self.place))
            async with asyncio.TaskGroup() as tasks:
                running = [
                    tasks.create_task(conductor.run(), name="conductor"),
                    tasks.create_task(fleet.watch(), name="watch-register"),
                ]
                self.conductor, self.fleet, self._tasks = conductor, fleet, tasks
                try:
                    await asyncio.Event().wait()
                finally:
                    self.conductor = self.fleet = self._tasks = None
                    for task in running:
                        task.cancel()
                    fleet.close()

    def lack(self) -> str:
        """What is still missing of a gateway that has all its nodes; empty if nothing is."""
        if self.conductor is None or self.fleet is None:
            return "the gateway does not live"
        here = len(self.fleet.everybody)
        if here < self.scenario.nodes:
            return f"{here} of {self.scenario.nodes} nodes are in"
        serving = [ring for ring in self.conductor.rings if ring.driver is not None]
        if not serving:
            return f"no ring serves: {self.conductor.health().reason}"
        shares = [len(ring.players) for ring in serving]
        if not self.scenario.planned and max(shares) < self.scenario.places:
            return f"rings have {shares} nodes, not {self.scenario.places}"
        return ""

    def held(self) -> str:
        """What sessions still hold of the gateway's rings; empty if nothing."""
        rings = self.conductor.rings if self.conductor is not None else ()
        kept = [(r.driver.active, r.driver.waiting) for r in rings if r.driver is not None]
        return f"sessions run and wait: {kept}" if any(map(any, kept)) else ""

    def _make_conductor(self, fleet: Fleet) -> Conductor:
        self._incarnation += 1
        manifest, options = self.manifest, self.options
        book = ShardBook(NoStore().home, MODEL, manifest.shards)
        ground = Ground(
            *(manifest, fleet, self.identity, options, self._tell),
            ends_process=partial(_ends, self, self.scenario),
        )
        return Conductor(
            *("hashes", ground),
            caster=Caster(
                *(manifest, range(manifest.n_layers + 1), options, book),
                host=self.machine.host,
                tell=self._tell,
            ),
            ends=ends_options(options.context, options.streams, options.rows_max),
            incarnation=self._incarnation,
        )

    def process(self, on_exit: Callable[[EngineFault], None]) -> Process:
        """A process on the gateway's machine."""
        return Process(self.machine, self._rng, self.scenario.pace, on_exit)

    def _tell(self, line: str) -> None:
        if " is down: " in line:
            self.downs.append((self._net.loop.time(), line))
        self._net.trace.note(f"gateway: {line}")


def _ends(
    gateway: SimGateway,
    scenario: Scenario,
    on_done: Callable[[ItemsDone, bytes], None],
    on_exit: Callable[[EngineFault], None],
    on_parcel: Callable[[ParcelAnswer, bytes], None] | None,
) -> EndsProcess:
    layers, manifest = scenario.n_layers, gateway.manifest
    return SimEnds(
        gateway.process(on_exit),
        (ENDS, layers - ENDS, layers),
        (N_EMBD, manifest.n_vocab),
        on_done=on_done,
        on_parcel=on_parcel,
    )
