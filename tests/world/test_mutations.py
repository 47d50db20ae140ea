"""The simulation of the system finds mistakes: each is made here, and has to be noticed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from atoll.domain.control import ControlMessage, PlanNotice
from atoll.domain.errors import AtollError, EngineFault, RingDown
from atoll.domain.generation import Sampled
from atoll.domain.ids import NodeId, SessionId
from atoll.gateway.conductor import Conductor
from atoll.gateway.generation import Generation
from atoll.gateway.mailbox import Mailbox
from atoll.gateway.ring import Ring
from atoll.members.fleet import Fleet
from atoll.members.strangers import Strangers
from atoll.net.link import ControlLink
from atoll.net.stream_link import StreamLink
from atoll.node.daemon import NodeDaemon
from atoll.node.stage_driver import StageDriver
from atoll.node.stage_host import StageHost
from atoll.ring.coordinator import Coordinator
from atoll.ring.stage_messages import StageEvent
from atoll.world.system_sim import SystemFailure, run_system_seed

Break = Callable[[pytest.MonkeyPatch], None]
SEEDS = 200


def last_token_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A session that goes on in the next ring begins one token too early."""
    lost = Generation._lost

    def forgetful(self: Generation, error: RingDown | EngineFault) -> None:
        if len(self._sampled) > len(self._request.sampled):
            self._sampled.pop()
        lost(self, error)

    patch.setattr(Generation, "_lost", forgetful)


def sessions_end_with_their_ring(patch: pytest.MonkeyPatch) -> None:
    """Nobody goes on in the next ring."""

    def raising(self: Generation, error: RingDown | EngineFault) -> None:
        raise error

    patch.setattr(Generation, "_lost", raising)


def token_repeated(patch: pytest.MonkeyPatch) -> None:
    """A token that is not the last is given twice."""
    put = Mailbox.put

    def twice(self: Mailbox, sampled: Sampled) -> None:
        put(self, sampled)
        if sampled.finish is None:
            put(self, sampled)

    patch.setattr(Mailbox, "put", twice)


def timers_left(patch: pytest.MonkeyPatch) -> None:
    """A stranger that introduced itself is still timed."""

    def forget(self: Strangers, link: ControlLink) -> None:
        self._timers.pop(link, None)

    patch.setattr(Strangers, "forget", forget)


def later_plans_ignored(patch: pytest.MonkeyPatch) -> None:
    """A node follows its first plan alone."""
    obey = NodeDaemon._obey

    def stubborn(self: NodeDaemon, message: ControlMessage) -> bool:
        return (
            True
            if isinstance(message, PlanNotice) and self._epoch is not None
            else obey(self, message)
        )

    patch.setattr(NodeDaemon, "_obey", stubborn)


def lost_nodes_ignored(patch: pytest.MonkeyPatch) -> None:
    """A ring does not heed that a node is gone or failed, or lost its link."""

    def deaf(self: Ring, node: NodeId, error: AtollError) -> None:
        return

    patch.setattr(Ring, "lost", deaf)
    patch.setattr(Ring, "unlinked", deaf)


def silence_ignored(patch: pytest.MonkeyPatch) -> None:
    """A link takes it that the other side was heard."""
    tick = StreamLink._tick

    def heard(self: StreamLink) -> None:
        self._heard = True
        tick(self)

    patch.setattr(StreamLink, "_tick", heard)


def credits_kept(patch: pytest.MonkeyPatch) -> None:
    """A stage gives no credits back."""
    handle = StageDriver._handle

    def greedy(self: StageDriver, event: StageEvent) -> None:
        self._grant_at = 1 << 30
        handle(self, event)

    patch.setattr(StageDriver, "_handle", greedy)


def engines_left(patch: pytest.MonkeyPatch) -> None:
    """A stage that is over leaves its process running, which then ends."""

    async def close(self: StageHost) -> None:
        self._driver.close()

    patch.setattr(StageHost, "_close", close)


def who_rests_is_stuck(patch: pytest.MonkeyPatch) -> None:
    """A session that rests counts as one that makes no progress."""

    def marks(self: Coordinator) -> dict[SessionId, tuple[int, int, int]]:
        return {s.id: (s.next_seq, s.sampled, len(s.out)) for s in self._tenants.by_id.values()}

    patch.setattr(Coordinator, "marks", marks)


def places_not_filled(patch: pytest.MonkeyPatch) -> None:
    """Who comes when a place is vacant gets none."""

    def objection(self: Fleet, link: ControlLink, join: Any) -> tuple[str, str]:
        return ("full", "") if self.changes > 3 else ("", "")

    patch.setattr(Fleet, "_objection", objection)


def tasks_left(patch: pytest.MonkeyPatch) -> None:
    """The conductor ends without its tasks."""
    run = Conductor.run

    async def careless(self: Conductor) -> None:
        asyncio.get_running_loop().create_task(asyncio.Event().wait())
        await run(self)

    patch.setattr(Conductor, "run", careless)


def run_all() -> None:
    for seed in range(SEEDS):
        run_system_seed(seed)


@pytest.mark.parametrize(
    "breaks",
    [
        last_token_forgotten,
        sessions_end_with_their_ring,
        token_repeated,
        timers_left,
        later_plans_ignored,
        lost_nodes_ignored,
        silence_ignored,
        credits_kept,
        engines_left,
        who_rests_is_stuck,
        places_not_filled,
        tasks_left,
    ],
)
def test_a_broken_system_is_noticed(breaks: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    breaks(monkeypatch)
    with pytest.raises(SystemFailure, match="seed"):
        run_all()
