"""A shard on the disk before its ring comes: fetched beside a stage, and kept until it serves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.conftest import MakeModel
from tests.support.hand_gateway import HandGateway, open_hand_gateway
from tests.support.lenders import Post, open_post

from atoll.domain.bulk import BLOCK_BYTES_MAX, ShardRange
from atoll.domain.control import NotPrefetched, Prefetch, Prefetched, Prefetching, Refusal
from atoll.domain.errors import AtollError
from atoll.domain.ids import ModelId, NodeId
from atoll.model.shard import hash_shard
from atoll.model.source import ByteSource
from atoll.node import prefetcher as module
from atoll.node.options import NodeOptions
from atoll.node.prefetcher import Prefetcher
from atoll.node.shard_seeker import ShardSeeker, Wanted
from atoll.store.cache import prune
from atoll.store.layout import FoundModel, Store, sha256_of
from atoll.store.shards import ensure_shard, shard_path
from atoll.transfer.holdings import Holdings

pytestmark = [pytest.mark.network, pytest.mark.usefixtures("own_children")]

MIB = 1 << 20
OPEN_BYTES = 2 * MIB
WAIT_S = 20.0


@pytest.fixture(scope="module")
def large(random_model: MakeModel) -> FoundModel:
    """A model whose shards have several pieces."""
    path: Path = random_model("llama", n_layers=6, n_embd=128, n_ff=512)
    return FoundModel(ModelId(sha256_of(path)), path, "m")


def order(model: FoundModel, number: int, first: int = 1, last: int = 5) -> Prefetch:
    digest = hash_shard(model.path, first, last)
    return Prefetch(number, model.model, 6, 0, first, last, digest.shard, digest.size_bytes)


@dataclass
class Gate:
    """Blocks beyond `OPEN_BYTES` wait; for the outline, which is read in pieces, nobody does."""

    source: ByteSource
    opened: threading.Event

    @property
    def size_bytes(self) -> int:
        return self.source.size_bytes

    def read(self, offset: int, size: int) -> bytes:
        if size <= BLOCK_BYTES_MAX and offset >= OPEN_BYTES:
            assert self.opened.wait(WAIT_S)
        return self.source.read(offset, size)


@dataclass
class Bench:
    """A prefetcher that runs, who lends to it, and what it said."""

    prefetcher: Prefetcher
    post: Post
    store: Store
    opened: threading.Event
    task: asyncio.Task[Any]
    answers: asyncio.Queue[Prefetching | Prefetched | NotPrefetched] = field(
        default_factory=asyncio.Queue
    )
    said: list[str] = field(default_factory=list)

    async def answer(self, kind: type[Any] | None = None) -> Any:
        """The next answer, or the next of a kind."""
        async with asyncio.timeout(WAIT_S):
            while True:
                answer = await self.answers.get()
                if kind is None or isinstance(answer, kind):
                    return answer

    async def wait_part(self, path: Path) -> None:
        """Wait until some of a shard is here: its last piece cannot come."""
        async with asyncio.timeout(WAIT_S):
            while (await self.answer(Prefetching)).here_bytes == 0:
                continue
        assert path.with_suffix(".part").stat().st_size > OPEN_BYTES

    def seeker(
        self, wanted: Prefetch, progress: Callable[[int, int], None] = lambda _here, _all: None
    ) -> ShardSeeker:
        """As a stage would have it."""
        shard = Wanted(wanted.model, 6, 0, wanted.first, wanted.last, wanted.shard)
        return ShardSeeker(
            *(shard, self.store, OPTIONS),
            holders=[self.post.holder()],
            progress=progress,
        )


OPTIONS = NodeOptions("node", "", threads=1, threads_large=1, cache_bytes_max=0)


@asynccontextmanager
async def open_bench(
    large: FoundModel, folder: Path, *, gated: bool = False
) -> AsyncIterator[Bench]:
    """A prefetcher and its lender; `gated`: layers 1 to 4 come only in part, until `opened`."""
    holdings = Holdings(
        Store(folder / "lender"), lambda wanted: large if wanted == large.model else None
    )
    opened = threading.Event()

    @contextmanager
    def lend(_peer: NodeId, shard: ShardRange) -> Iterator[ByteSource]:
        with holdings.opened(shard) as source:
            is_held = gated and (shard.first, shard.last) == (1, 5)
            yield Gate(source, opened) if is_held else source

    store = Store(folder / "node")
    async with open_post(lend) as post:
        answers: asyncio.Queue[Prefetching | Prefetched | NotPrefetched] = asyncio.Queue()
        said: list[str] = []
        prefetcher = Prefetcher(
            *(store, OPTIONS),
            holders=lambda _sources: [post.holder()],
            send=answers.put_nowait,
            tell=said.append,
        )
        task = asyncio.get_running_loop().create_task(prefetcher.run())
        try:
            yield Bench(prefetcher, post, store, opened, task, answers, said)
        finally:
            opened.set()
            task.cancel()
            await asyncio.wait([task], timeout=WAIT_S)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPORT_S", 0.02)


async def test_it_is_here_and_stays_until_a_stage_is_ready(
    large: FoundModel, tmp_path: Path
) -> None:
    """Nothing may stay by the bound on the disk, except what is in use."""
    wanted = order(large, 7)
    async with open_bench(large, tmp_path) as bench:
        other = ensure_shard(bench.store, large, 0, 2).path
        bench.prefetcher.ask(wanted)
        assert await bench.answer(Prefetched) == Prefetched(7)
        path = shard_path(bench.store, large.model, 1, 5)
        assert sha256_of(path) == wanted.shard
        assert not other.exists()
        assert prune(bench.store, 0).removed == ()
        # A plan does not end that, only its stage does.
        bench.prefetcher.stop()
        seeker = bench.seeker(wanted)
        assert (await seeker.find()).path == path
        assert bench.post.lender.lent_bytes == wanted.size_bytes
        bench.prefetcher.release()
        assert prune(bench.store, 0).removed == ()
        seeker.close()
        assert len(prune(bench.store, 0).removed) == 1
    assert bench.said == ["layers 1 to 4 are here for a ring to come"]


async def test_it_says_how_far_it_is(large: FoundModel, tmp_path: Path) -> None:
    wanted = order(large, 1)
    async with open_bench(large, tmp_path, gated=True) as bench:
        bench.prefetcher.ask(wanted)
        first = await bench.answer()
        assert isinstance(first, Prefetching)
        assert (first.number, first.size_bytes) == (1, wanted.size_bytes)
        assert 0 <= first.here_bytes < wanted.size_bytes
        await bench.wait_part(shard_path(bench.store, large.model, 1, 5))
        bench.opened.set()
        assert await bench.answer(Prefetched) == Prefetched(1)


async def test_a_newer_one_replaces_it(large: FoundModel, tmp_path: Path) -> None:
    async with open_bench(large, tmp_path, gated=True) as bench:
        bench.prefetcher.ask(order(large, 1))
        path = shard_path(bench.store, large.model, 1, 5)
        await bench.wait_part(path)
        bench.prefetcher.ask(order(large, 2, 0, 3))
        bench.prefetcher.ask(order(large, 3, 2, 4))
        passed_over = await bench.answer(NotPrefetched)
        assert (passed_over.number, passed_over.problem) == (
            2,
            "something newer is wanted of this node",
        )
        assert (await bench.answer(NotPrefetched)).number == 1
        assert await bench.answer(Prefetched) == Prefetched(3)
        assert shard_path(bench.store, large.model, 2, 4).exists()
        assert not path.exists()
        assert not shard_path(bench.store, large.model, 0, 3).exists()


async def test_a_plan_goes_on_with_what_has_come(large: FoundModel, tmp_path: Path) -> None:
    wanted = order(large, 1)
    async with open_bench(large, tmp_path, gated=True) as bench:
        bench.prefetcher.ask(wanted)
        await bench.wait_part(shard_path(bench.store, large.model, 1, 5))
        bench.prefetcher.stop()
        assert (await bench.answer(NotPrefetched)).number == 1
        bench.opened.set()
        came: list[tuple[int, int]] = []
        seeker = bench.seeker(wanted, lambda *told: came.append(told))
        async with asyncio.timeout(WAIT_S):
            found = await seeker.find()
        seeker.close()
        assert found.shard == wanted.shard
        # Whole pieces do not come again.
        assert came[0][0] >= MIB
        assert not bench.task.done()


async def test_what_cannot_be_had_is_said_and_the_next_one_comes(
    large: FoundModel, tmp_path: Path
) -> None:
    wanted = order(large, 1)
    async with open_bench(large, tmp_path) as bench:
        bench.prefetcher.ask(msgspec.structs.replace(wanted, model=ModelId("e" * 64)))
        failed = await bench.answer(NotPrefetched)
        assert failed.number == 1
        assert "are not here" in failed.problem
        bench.prefetcher.ask(msgspec.structs.replace(wanted, number=2, shard="f" * 64))
        failed = await bench.answer(NotPrefetched)
        assert (failed.number, "but the plan says ffff" in failed.problem) == (2, True)
        assert str(tmp_path) not in failed.problem
        bench.prefetcher.ask(msgspec.structs.replace(wanted, number=3))
        assert await bench.answer(Prefetched) == Prefetched(3)


async def test_it_ends_with_the_node(large: FoundModel, tmp_path: Path) -> None:
    async with open_bench(large, tmp_path, gated=True) as bench:
        bench.prefetcher.ask(order(large, 1))
        await bench.wait_part(shard_path(bench.store, large.model, 1, 5))
        bench.task.cancel()
        await asyncio.wait([bench.task], timeout=WAIT_S)
        assert bench.task.cancelled()
        # Neither its use nor its lock is held: what came of it may go.
        assert [entry.kind for entry in prune(bench.store, 0).removed] == ["partial"]


@pytest.mark.engine
async def test_the_stage_serves_meanwhile(model: FoundModel, tmp_path: Path) -> None:
    store = Store(tmp_path)
    async with open_hand_gateway(model, store) as hand:
        await hand.form()
        before = await hand.computed(1, 0, 0, 0)
        hand.control.send(order(model, 1, 1, 3))
        assert await hand.heard.next_message(Prefetched) == Prefetched(1)
        assert prune(store, 0).removed == ()
        assert await hand.computed(2, 1, 0, 0) == before
    # Both shards can go once the node has left.
    assert len(prune(store, 0).removed) == 2


@pytest.mark.engine
async def test_once_a_stage_is_ready_only_its_own_shard_is_in_use(
    model: FoundModel, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    async with open_hand_gateway(model, store) as hand:
        hand.control.send(order(model, 1, 1, 3))
        await hand.heard.next_message(Prefetched)
        assert prune(store, 0).removed == ()
        await hand.form()
        [gone] = prune(store, 0).removed
        assert "layers 1-2" in gone.name
        await hand.computed(1, 0, 0, 0)


@pytest.mark.engine
@pytest.mark.parametrize(
    ("changes", "problem"),
    [({"model": "../../secrets"}, "no hash"), ({"last": 7}, "layers that the model does not have")],
)
async def test_an_order_that_makes_no_sense_ends_the_link(
    hand: HandGateway, model: FoundModel, changes: dict[str, Any], problem: str
) -> None:
    hand.control.send(msgspec.structs.replace(order(model, 1), **changes))
    assert problem in (await hand.heard.next_message(Refusal)).problem
    await asyncio.wait([hand.running], timeout=WAIT_S)
    assert isinstance(hand.running.exception(), AtollError)
