"""A draft model on a real ring whose links are long: it guesses, and answers stay the same."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import MakeModel
from tests.support.rings import Ring, open_ring, wait_until

from atoll.domain.address import Address, HostPort
from atoll.domain.errors import BadRequest
from atoll.domain.generation import GenerateRequest, Sampled, SamplingParams
from atoll.gateway import ring_plan
from atoll.gateway.options import RingOptions
from atoll.members.member import Member, address_of
from atoll.store.layout import Store
from bench import slow_net

pytestmark = [
    pytest.mark.alone,
    pytest.mark.engine,
    pytest.mark.network,
    pytest.mark.usefixtures("own_children"),
]

DELAY_S = 0.1
OPTIONS = RingOptions(nodes=2, streams=2, context=256, spin=1000, speculate="none")
WAYS = {
    "greedy": SamplingParams(temperature=0.0),
    "sampled": SamplingParams(temperature=0.8, top_p=0.95, seed=7),
    "penalised": SamplingParams(temperature=0.7, repeat_penalty=1.2, seed=3),
}
PROMPT = (504, 3575, 282, 253, 2885, 6330, 28, 339, 260, 1780)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((slow_net.LOOPBACK, 0))
        return int(sock.getsockname()[1])


@asynccontextmanager
async def far_ring(
    store: Store, model: Path, folder: Path, options: RingOptions, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Ring]:
    """A ring of two nodes with a long link between them."""
    port = free_port()
    async with AsyncExitStack() as stack:
        path = slow_net.Path(delay_s=DELAY_S)
        slow = await stack.enter_async_context(slow_net.slow_tcp(port, path))
        behind = Address(tls=HostPort(slow_net.LOOPBACK, slow))

        def way_to(member: Member) -> Address:
            return behind if member.name == "node-2" else address_of(member)

        monkeypatch.setattr(ring_plan, "address_of", way_to)
        ring = await stack.enter_async_context(
            open_ring(store.resolve(str(model)), store, folder, options, join=False)
        )
        await ring.add_node(ring.gateway.join_files[0])
        await ring.add_node(ring.gateway.join_files[1], "--port", str(port))
        await ring.wait_ready()
        yield ring


async def answer(ring: Ring, sampling: SamplingParams, n: int = 16) -> list[Sampled]:
    request = GenerateRequest(PROMPT, n, sampling, exact=True, ignore_eos=True)
    found = [sampled async for sampled in ring.gateway.conductor.generate(request)]
    return [replace(sampled, cached=0) for sampled in found]


@pytest.mark.long
async def test_answers_are_the_same_also_without_it_from_some_point_on(
    test_store: Store, demo_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = test_store.resolve(str(demo_model))
    async with open_ring(model, test_store, tmp_path / "plain", OPTIONS) as ring:
        plain = {name: await answer(ring, way) for name, way in WAYS.items()}
    drafted = replace(OPTIONS, speculate="lookup", draft=str(demo_model), reuse=False)
    async with far_ring(test_store, demo_model, tmp_path / "draft", drafted, monkeypatch) as ring:
        [made] = ring.gateway.conductor.rings
        assert made.driver is not None
        pace = made.driver.pace
        await answer(ring, WAYS["greedy"], 4)
        assert pace.is_far
        before = pace.guessed
        assert {name: await answer(ring, way) for name, way in WAYS.items()} == plain
        # It is the model itself: of its guesses at what has no penalties nearly all are right.
        assert pace.guessed - before > 12
        assert pace.right > 0.6 * pace.guessed
        assert pace.draft_s > 0
        together = await asyncio.gather(*(answer(ring, way) for way in WAYS.values()))
        assert dict(zip(WAYS, together, strict=True)) == plain
        # Its process dies in the middle of an answer.
        told = pace.guessed
        async with asyncio.TaskGroup() as tasks:
            going = tasks.create_task(answer(ring, WAYS["greedy"]))
            await wait_until(lambda: pace.guessed > told, what="a guess")
            os.kill(made.drafts.pid or 0, signal.SIGKILL)
        assert going.result() == plain["greedy"]
        assert await answer(ring, WAYS["sampled"]) == plain["sampled"]
        assert made.drafts.pid is None
        assert any("without the draft model" in line for line in ring.said)


async def test_a_draft_model_of_another_vocabulary_is_refused(
    test_store: Store, demo_model: Path, random_model: MakeModel, tmp_path: Path
) -> None:
    options = replace(OPTIONS, speculate="lookup", draft=str(random_model()))
    with pytest.raises(BadRequest, match=r"cannot draft for .*: it has \d+ tokens, not 49152"):
        async with open_ring(
            test_store.resolve(str(demo_model)), test_store, tmp_path, options, join=False
        ):
            pass
