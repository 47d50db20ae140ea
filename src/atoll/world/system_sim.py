"""System simulation: the product's own code on machines that do not exist.

One gateway and some nodes run in one loop of virtual time, over a network, engines and a
model that are simulated. Clients ask, machines and ways fail, and come back; then
everything has to work again, and nothing may be left over when all is shut down. A seed
decides everything.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from atoll.domain.generation import GenerateRequest
from atoll.net.identity import Identity
from atoll.sim.traffic import BrokenInvariant, require
from atoll.world.clients import FINISHED, Session, ask, session_of
from atoll.world.faults import Faults
from atoll.world.gateway import SimGateway
from atoll.world.governed import governed
from atoll.world.lives import Lives
from atoll.world.loop import SimLoop
from atoll.world.machine import Machine
from atoll.world.network import Network
from atoll.world.node import SimNode
from atoll.world.scenario import CALM_S, Client, Scenario, make_scenario
from atoll.world.trace import Trace

LIVENESS_S = 240.0
"""When all faults are over somebody has to be served within so long."""
WHOLE_S = 60.0
"""And within so long more everybody has to be back."""
AGAIN_S = 1.0
QUIET_S = 20.0
"""What was shut down may take so long to be gone: links that wait for their other ends."""
INVITED_S = 3600.0 * 24 * 365


class SystemFailure(Exception):
    """An invariant was broken; `seed` replays it. `trace` has the last events, a line each."""

    def __init__(self, seed: int, events: int, problem: str, trace: tuple[str, ...]) -> None:
        super().__init__(f"seed {seed}, event {events}: {problem}")
        self.seed = seed
        self.events = events
        self.problem = problem
        self.trace = trace


@dataclass(frozen=True, slots=True)
class SystemReport:
    """What happened in a run that broke nothing.

    `digest` is equal for equal runs, `ends` counts sessions by how they ended, `again_s`
    is how long it took until somebody was served once all faults were over.
    """

    seed: int
    events: int
    digest: str
    ends: dict[str, int]
    tokens: int
    faults: dict[str, int]
    again_s: float
    virtual_s: float


def run_system_seed(seed: int, *, quiet: bool = True) -> SystemReport:
    """Simulate the world of `seed` until all is shut down.

    Args:
        seed: Which world.
        quiet: Whether the product logs nothing.

    Raises:
        SystemFailure: An invariant was broken, or the run did not settle.
    """
    rng = random.Random(seed)  # noqa: S311 - a replayable world, nothing secret
    scenario = make_scenario(rng)
    loop = SimLoop()
    world: World | None = None
    try:
        with governed(loop, random.Random(rng.random()), quiet=quiet):  # noqa: S311 - as above
            world = World(scenario, loop, rng)
            loop.run_until_complete(world.run())
            require(not loop.problems, f"nobody caught: {'; '.join(loop.problems[:3])}")
    except Exception as error:
        trace = world.trace if world is not None else Trace(loop)
        raise SystemFailure(seed, trace.events, told(error, loop), tuple(trace.lines)) from error
    finally:
        loop.close()
    return world.report(seed)


def told(error: BaseException, loop: SimLoop) -> str:
    """The first error of a group, with its type unless it is an invariant's."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    also = f" (nobody caught: {loop.problems[0]})" if loop.problems else ""
    if isinstance(error, BrokenInvariant):
        return f"{error}{also}"
    return f"{type(error).__name__}: {error}{also}"


class World:
    """One run.

    Args:
        scenario: What its seed decided beforehand.
        loop: Its clock.
        rng: Its chance.
    """

    def __init__(self, scenario: Scenario, loop: SimLoop, rng: random.Random) -> None:
        self._scenario, self._loop, self._rng = scenario, loop, rng
        self.trace = Trace(loop)
        gate = Machine("gateway", "10.0.0.1")
        self._machines = [
            Machine(f"node-{i + 1}", f"10.0.0.{i + 2}") for i in range(scenario.nodes)
        ]
        self._net = Network(
            *(loop, random.Random(rng.random()), self.trace),  # noqa: S311 - replayable
            [gate, *self._machines],
            way_s=scenario.way_s,
        )
        self._gateway = SimGateway(scenario, self._net, gate, self._identity(), rng)
        _, secret = self._gateway.register.invite(
            "local", uses=scenario.nodes, lifetime_s=INVITED_S
        )
        self._nodes = [
            SimNode(
                *(self._net, machine, self._identity()),
                gateway=(self._gateway.identity.node_id, self._gateway.place),
                secret=secret,
                pace=scenario.pace,
                keeps_bytes=scenario.keeps_bytes,
                rng=rng,
            )
            for machine in self._machines
        ]
        self._sessions: list[Session] = []
        self._again_s = 0.0

    def report(self, seed: int) -> SystemReport:
        """What happened."""
        return SystemReport(
            seed=seed,
            events=self.trace.events,
            digest=self.trace.digest,
            ends=dict(Counter(session.ended for session in self._sessions)),
            tokens=sum(session.tokens for session in self._sessions),
            faults=dict(self.trace.faults),
            again_s=self._again_s,
            virtual_s=self._loop.time(),
        )

    async def run(self) -> None:
        """Live through it, and check what must hold at its end.

        Raises:
            BrokenInvariant: Something does not.
        """
        async with asyncio.TaskGroup() as tasks:
            lives = Lives(self._net, tasks)
            machine = self._gateway.machine
            lives.begin(machine, self._gateway.live)
            for node in self._nodes:
                lives.begin(node.machine, node.live)
            await self._live_through(Faults(self._net, lives, machine, self._machines))
            began_s = self._loop.time()
            await asyncio.sleep(CALM_S)
            await self._served_again(began_s)
            await self._whole_again()
            await self._idle()
            for one in (*self._machines, machine):
                await lives.stop(one)
        await self._check_nothing_left()

    async def _live_through(self, faults: Faults) -> None:
        """Everybody has come and asked, and every fault has come and gone."""
        async with asyncio.TaskGroup() as tasks:
            for number, client in enumerate(self._scenario.clients):
                tasks.create_task(self._ask(f"session-{number}", client), name=f"client-{number}")
            for fault in self._scenario.faults:
                tasks.create_task(faults.carry_out(fault), name=f"fault-{fault.kind}")

    async def _ask(self, name: str, client: Client) -> None:
        await asyncio.sleep(client.at_s)
        session = session_of(name, client.request, self._gateway, client.leave_tokens)
        await self._follow(session)

    async def _follow(self, session: Session) -> None:
        self._sessions.append(session)
        await ask(self._gateway, session)
        self.trace.note(f"{session.name}: {session.ended} after {session.tokens} tokens")

    async def _served_again(self, since_s: float) -> None:
        """Somebody who asks again and again is served at last.

        Raises:
            BrokenInvariant: Nobody is within `LIVENESS_S`.
        """
        request = GenerateRequest((3, 1, 4), 3, ignore_eos=True)
        number = 0
        while self._loop.time() < since_s + LIVENESS_S:
            number += 1
            session = session_of(f"again-{number}", request, self._gateway)
            await self._follow(session)
            if session.ended == FINISHED:
                self._again_s = self._loop.time() - since_s
                return
            await asyncio.sleep(AGAIN_S)
        conductor = self._gateway.conductor
        why = conductor.health().reason if conductor is not None else "the gateway does not live"
        raise BrokenInvariant(f"nobody is served {LIVENESS_S:g} s after the last fault: {why}")

    async def _whole_again(self) -> None:
        """Every node comes in again, equal shares are dealt to all places, nothing is held.

        Raises:
            BrokenInvariant: Not within `WHOLE_S`.
        """
        for _ in range(round(WHOLE_S / AGAIN_S)):
            lack = self._gateway.lack() or self._gateway.held()
            if not lack:
                return
            await asyncio.sleep(AGAIN_S)
        raise BrokenInvariant(f"{WHOLE_S:g} s after the ring served again {lack}")

    async def _idle(self) -> None:
        """Nobody asks for a while; then somebody does. No ring has broken without a fault.

        Raises:
            BrokenInvariant: One has, or nobody is served.
        """
        if self._scenario.idle_s:
            await asyncio.sleep(self._scenario.idle_s)
            await self._served_again(self._loop.time())
        for at_s, line in self._gateway.downs:
            require(self._scenario.blames(at_s), f"without any fault at {at_s:.1f} s: {line}")

    async def _check_nothing_left(self) -> None:
        """Nothing goes on once all is shut down.

        Raises:
            BrokenInvariant: A task, a timer or a connection is left.
        """
        await asyncio.sleep(QUIET_S)
        left = [t.get_name() for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        require(not left, f"tasks are left: {left}")
        timers = self._loop.timers()
        require(not timers, f"timers are left: {timers[:3]}")
        engines = [m.name for m in (*self._machines, self._gateway.machine) if m.engines]
        require(not engines, f"engine processes are left on {engines}")
        require(self._net.open_ends == 0, f"{self._net.open_ends} ends of links are left")

    def _identity(self) -> Identity:
        return Identity.from_key(Ed25519PrivateKey.from_private_bytes(self._rng.randbytes(32)))
