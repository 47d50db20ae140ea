"""More conversations than slots: each goes on from its caches, or is computed anew."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.support.rings import Ring, open_ring, wait_until

from atoll.gateway.options import RingOptions
from atoll.node.keeping import Keeping
from atoll.store.layout import FoundModel, Store

pytestmark = [pytest.mark.engine, pytest.mark.network]

MIB = 1024**2
OPTIONS = RingOptions(
    *(2,), streams=2, context=512, spin=1000, keeping=Keeping(64 * MIB, 0), plan="equal"
)
SYSTEM_TOKENS = 40
"""At most what the model's template says before anything else."""
TALKS = [
    "The tide comes in twice a day, and twice a day it goes out again. " * 2,
    "A lighthouse stands on the outer reef, and its lamp is lit at dusk. " * 2,
    "Nine ships lie in the harbour, and none of them will sail today. " * 2,
    "The wind has turned to the north, and the water is cold and clear. " * 2,
]
Messages = list[dict[str, str]]


async def turn(ring: Ring, messages: Messages) -> dict[str, Any]:
    asked = {"model": ring.name, "messages": messages, "temperature": 0, "max_tokens": 8}
    reply = await ring.http.post("/v1/chat/completions", json=asked | {"exact": True})
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    messages += [
        {"role": "assistant", "content": found["choices"][0]["message"]["content"]},
        {"role": "user", "content": "And what else?"},
    ]
    return found


def cached(reply: dict[str, Any]) -> int:
    count: int = reply["usage"]["prompt_tokens_details"]["cached_tokens"]
    return count


def begun() -> list[Messages]:
    return [[{"role": "user", "content": f"{text}What is said here?"}] for text in TALKS]


async def in_turns(ring: Ring, talks: list[Messages], turns: int) -> list[list[dict[str, Any]]]:
    """Every conversation says something, then each goes on, and so forth."""
    return [[await turn(ring, talk) for talk in talks] for _ in range(turns)]


def answers(said: list[list[dict[str, Any]]]) -> list[list[Any]]:
    return [[reply["choices"] for reply in round_] for round_ in said]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plain_answers(
    test_store: Store, demo: FoundModel, tmp_path_factory: pytest.TempPathFactory
) -> list[list[Any]]:
    """What a gateway says whose slots hold them all, for as many turns as any test takes."""
    folder = tmp_path_factory.mktemp("plain")
    async with open_ring(demo, test_store, folder, replace(OPTIONS, streams=4)) as ring:
        said = await in_turns(ring, begun(), 4)
    return answers(said)


async def test_conversations_go_on_from_their_parcels(
    test_store: Store, demo: FoundModel, tmp_path: Path, plain_answers: list[list[Any]]
) -> None:
    async with open_ring(demo, test_store, tmp_path, OPTIONS) as ring:
        said = await in_turns(ring, begun(), 3)
        # Of others' conversations no more than the beginning that all of them have.
        assert max(cached(reply) for reply in said[0]) <= SYSTEM_TOKENS
        for before, after in pairwise(said):
            for old, new in zip(before, after, strict=True):
                # All of the turn before, but for a few tokens at its end.
                assert cached(new) >= old["usage"]["prompt_tokens"] - 8
                assert cached(new) < new["usage"]["prompt_tokens"]
        # Two rest in the slots, two are parked.
        driver = ring.gateway.conductor.rings[0].driver
        assert driver is not None
        await wait_until(lambda: driver.lot.parked == 2, what="two parked conversations")
        assert driver.parking.held_bytes > 0
    assert answers(said) == plain_answers[:3]


@pytest.mark.long
async def test_parcels_that_are_lost_are_computed_again(
    test_store: Store, demo: FoundModel, tmp_path: Path, plain_answers: list[list[Any]]
) -> None:
    async with open_ring(demo, test_store, tmp_path, OPTIONS, join=False) as ring:
        for path in ring.gateway.join_files:
            await ring.add_node(path, "--cache-ram", "0", "--cache-disk", "64MB")
        await ring.wait_ready()
        talks = begun()
        said = await in_turns(ring, talks, 2)
        assert all(cached(reply) > SYSTEM_TOKENS for reply in said[1])
        folders = [tmp_path / f"node-{i}" / "parcels-node" for i in (1, 2)]
        assert all(folder.stat().st_mode & 0o777 == 0o700 for folder in folders)
        files = [path for path in folders[1].rglob("*") if path.is_file()]
        assert files
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in files)
        for path in files:
            # Cut, as by a full disk: it must not be taken for what it was.
            path.write_bytes(path.read_bytes()[:-7])
        said += await in_turns(ring, talks, 1)
        # Those in slots had to leave for the first two, and came back from the disk.
        kept = [cached(reply) > SYSTEM_TOKENS for reply in said[2]]
        assert kept == [False, False, True, True]
        said += await in_turns(ring, talks, 1)
        assert all(cached(reply) > SYSTEM_TOKENS for reply in said[3])
        for node in ring.nodes:
            node.process.terminate()
            await node.wait_ended(60.0)
        assert not any(list(folder.rglob("*")) for folder in folders)
    assert answers(said) == plain_answers[:4]


@pytest.mark.long
async def test_conversations_go_on_from_lent_memory(
    test_store: Store, demo: FoundModel, tmp_path: Path, plain_answers: list[list[Any]]
) -> None:
    """Nobody has room for parcels of its own: all lie on a node that computes nothing."""
    options = replace(OPTIONS, keeping=Keeping(1000, 0))
    async with open_ring(demo, test_store, tmp_path, options, join=False) as ring:
        shelf = await ring.add_memory_node()
        for path in ring.gateway.join_files:
            await ring.add_node(path, "--cache-ram", "1000", "--cache-disk", "0")
        await ring.wait_ready()
        talks = begun()
        said = await in_turns(ring, talks, 2)
        assert all(cached(reply) > SYSTEM_TOKENS for reply in said[1])
        # Two conversations, each in three parts: of two nodes and of the ends.
        await wait_until(lambda: ring.status.memory[0].blobs == 6, what="the parcels")
        shelf.process.kill()
        await shelf.process.wait()
        said += await in_turns(ring, talks, 1)
        # With that node went what lay there, and the slots were wanted.
        assert not any(cached(reply) > SYSTEM_TOKENS for reply in said[2])
        assert ring.status.ready
    assert answers(said) == plain_answers[:3]
