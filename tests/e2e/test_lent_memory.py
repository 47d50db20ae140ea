"""A node that only lends memory beside a ring: real processes, real links."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.e2e.conftest import OpenSmall
from tests.support.children import new_children
from tests.support.hand_gateway import Heard, at
from tests.support.hand_node import a_join
from tests.support.rings import Ring, start_node, wait_until

from atoll.domain.control import Welcome
from atoll.domain.lent_memory import MemoryGone, MemoryHere
from atoll.net.identity import Identity
from atoll.net.transport import open_transport
from atoll.node.remote_keeper import LIMIT_S, RemoteKeeper, _Place

pytestmark = [
    pytest.mark.engine,
    pytest.mark.network,
    pytest.mark.usefixtures("own_children"),
]
LENT = "64MB"


def keeper_of(ring: Ring) -> RemoteKeeper:
    """The gateway's own."""
    return ring.gateway.conductor._fleet.memory.own


@asynccontextmanager
async def another_borrower(ring: Ring) -> AsyncIterator[tuple[RemoteKeeper, Heard]]:
    """A member with a key of its own that borrows, driven by hand."""
    ticket = ring.invite()
    async with open_transport(Identity.generate(), way="tls") as transport:
        [place] = ticket.addresses
        link = await transport.dial_control(at(place.port), expected=ticket.gateway)
        heard = Heard()
        link.start(heard)
        link.send(a_join(ticket.secret, 1234, borrows_memory=True))
        await heard.next_message(Welcome)
        keeper = RemoteKeeper()
        keeper.open(transport)
        try:
            yield keeper, heard
        finally:
            keeper.close()
            link.close()
            await link.wait_closed()


@pytest.mark.long
async def test_blobs_are_kept_for_whoever_put_them(open_small: OpenSmall) -> None:
    async with open_small(plan="auto") as ring:
        before = await ring.tokens((3, 4, 5), 8)
        await ring.add_memory_node(LENT)
        own = keeper_of(ring)
        async with another_borrower(ring) as (other, heard):
            here = await heard.next_message(MemoryHere)
            assert own.lenders == [here.node]
            other.note(here)
            # Byte for byte, for each of them, under the same name.
            ours, theirs = os.urandom(5_000_001), os.urandom(300_000)
            assert await own.put("a/1", ours)
            assert await other.get("a/1") is None
            assert await other.put("a/1", theirs)
            assert await own.get("a/1") == ours
            assert await other.get("a/1") == theirs
            await other.drop("a/1")
            assert await other.get("a/1") is None
            assert await own.get("a/1") == ours
            # Asked for by name and key it is not given to another either.
            other._places["a/1"] = _Place(other._lenders[here.node], len(ours))
            assert await other.get("a/1") is None
        await wait_until(lambda: ring.status.memory[0].blobs == 1, what="the report")
        [shelf] = ring.status.memory
        assert (shelf.name, shelf.lent_bytes) == ("shelf", 64_000_000)
        assert len(ours) < shelf.used_bytes < len(ours) + 10_000
        # It has no part in the ring, is no spare, and is not measured.
        fleet = ring.gateway.conductor._fleet
        assert {member.name for member in fleet.everybody} == {"node-1", "node-2"}
        assert [stage.name for stage in ring.status.rings[0].stages] != []
        assert "shelf" not in {stage.name for stage in ring.status.rings[0].stages}
        assert await ring.tokens((3, 4, 5), 8) == before
    assert new_children() == []


async def test_a_killed_lender_costs_nothing_but_its_blobs(open_small: OpenSmall) -> None:
    async with open_small() as ring:
        before = await ring.tokens((3, 4, 5), 8)
        shelf = await ring.add_memory_node(LENT)
        own = keeper_of(ring)
        async with another_borrower(ring) as (_, heard):
            assert await own.put("x", bytes(1 << 20))
            assert await own.get("x") == bytes(1 << 20)
            async with asyncio.TaskGroup() as tasks:
                generating = tasks.create_task(ring.tokens((6, 7), 32))
                shelf.process.kill()
                # A node that is gone is not waited for until the limit.
                async with asyncio.timeout(LIMIT_S / 2):
                    assert await own.get("x") is None
                    assert not await own.put("y", b"y")
            assert (await heard.next_message(MemoryGone)).node not in own.lenders
            assert len(generating.result()) == 32
        assert ring.status.memory == ()
        assert ring.status.ready
        assert await ring.tokens((3, 4, 5), 8) == before
    assert new_children() == []


async def test_a_lender_does_not_count_for_the_nodes(open_small: OpenSmall) -> None:
    async with open_small(nodes=1, join=False) as ring:
        # With the join file that was for the ring's one place.
        [path] = ring.gateway.join_files
        home, log = ring.folder / "shelf", ring.folder / "shelf.log"
        shelf = await start_node(path, home, log, "--memory-only", LENT, store=ring.store)
        ring.nodes.append(shelf)
        await wait_until(lambda: ring.status.memory, timeout_s=30, what="the shelf")
        assert (ring.status.nodes_missing, ring.status.ready) == (1, False)
        # There is a new file in its place, and a node that computes completes the ring.
        await ring.add_node(path)
        await ring.wait_ready()
        assert len(await ring.tokens((3, 4, 5), 8)) == 8
        # It goes as it came: by itself.
        shelf.process.terminate()
        await shelf.wait_ended()
        await wait_until(lambda: not ring.status.memory, what="the end of the shelf")
        assert ring.status.ready
    assert new_children() == []
