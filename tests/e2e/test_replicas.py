"""Several rings of one model, each of nodes of its own: requests are shared, losses are not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.conftest import MakeModel
from tests.support.children import new_children
from tests.support.rings import Ring, open_ring, wait_until

from atoll.domain.generation import GenerateRequest, SamplingParams
from atoll.gateway.options import RingOptions
from atoll.members.register import REGISTER_FILE, Register
from atoll.net.ticket import Ticket
from atoll.store.layout import FoundModel, Store

pytestmark = [pytest.mark.engine, pytest.mark.network, pytest.mark.usefixtures("own_children")]

OPTIONS = RingOptions(
    nodes=1, streams=4, context=512, rows_max=64, chunk_rows=64, spin=1000, rings=2
)
PROMPT = tuple(range(3, 40))
TOKENS = 400


@pytest.fixture
def small(random_model: MakeModel, tmp_path: Path) -> FoundModel:
    return Store(tmp_path / "store").resolve(str(random_model("llama", n_layers=6)))


async def add_friend(ring: Ring, name: str) -> None:
    """A node that has no place of its own."""
    register = Register(ring.folder / "gateway" / REGISTER_FILE)
    invitation, secret = register.invite(name, uses=1, lifetime_s=60)
    path = ring.folder / f"{name}.join"
    Ticket(ring.gateway.key, ring.gateway.addresses, secret, invitation.expires).write(path)
    await ring.add_node(path, home=ring.folder / name)


def ready(ring: Ring) -> list[str]:
    """The nodes of rings that serve."""
    return [part.stages[0].name for part in ring.status.rings if part.ready]


async def test_two_rings_side_by_side(small: FoundModel, tmp_path: Path) -> None:
    async with open_ring(small, Store(tmp_path / "store"), tmp_path, OPTIONS) as ring:
        wanted = await ring.tokens(PROMPT, 12)
        assert ready(ring) == ["node-1"]
        await add_friend(ring, "node-2")
        await wait_until(lambda: len(ready(ring)) == 2, timeout_s=20)
        assert sorted(ready(ring)) == ["node-1", "node-2"]
        assert any("ring 2 is complete" in line for line in ring.said)

        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(ring.tokens(PROMPT, 12)) for _ in range(8)]
        assert [task.result() for task in asked] == [wanted] * 8
        await wait_until(lambda: all(part.stages[0].rows for part in ring.status.rings))

        await lose_one(ring, wanted)
    assert new_children() == []


async def lose_one(ring: Ring, wanted: tuple[int, ...]) -> None:
    """A node dies while both rings answer: its ring's streams go on in the other."""
    running = [Endless(ring) for _ in range(6)]
    async with asyncio.TaskGroup() as tasks:
        reading = [tasks.create_task(stream.read()) for stream in running]
        await wait_until(lambda: all(part.active for part in ring.status.rings))
        ring.nodes[1].process.kill()
        await wait_until(lambda: ready(ring) == ["node-1"])
        # Whoever asks now is answered by the ring that is left.
        assert await ring.tokens(PROMPT, 12) == wanted
        counts = [stream.count for stream in running]
        await wait_until(
            lambda: all(s.count > n for s, n in zip(running, counts, strict=True)), timeout_s=30
        )
        for task in reading:
            task.cancel()
    # It comes back, and so does its ring.
    await ring.add_node(None, home=ring.folder / "node-2")
    await wait_until(lambda: len(ready(ring)) == 2, timeout_s=20)
    assert await ring.tokens(PROMPT, 12) == wanted


class Endless:
    """Streams one answer after the other; each has all its tokens."""

    def __init__(self, ring: Ring) -> None:
        self._conductor = ring.gateway.conductor
        self.count = 0

    async def read(self) -> None:
        request = GenerateRequest(
            PROMPT, TOKENS, SamplingParams(temperature=0.0), exact=True, ignore_eos=True
        )
        while True:
            before = self.count
            async for _ in self._conductor.generate(request):
                self.count += 1
            assert self.count - before == TOKENS
