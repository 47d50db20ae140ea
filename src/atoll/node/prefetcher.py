"""Has a shard on this node's disk before the ring that needs it comes.

One at a time, the newest that the gateway asked for, beside whatever stage serves.
The shard stays in use, so that no bound on the disk removes it, until a stage of
this node is ready or another one is wanted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import NoReturn

from atoll.domain.control import NotPrefetched, Prefetch, Prefetched, Prefetching, Source
from atoll.domain.errors import AtollError
from atoll.node.options import NodeOptions
from atoll.node.shard_seeker import ShardSeeker, Wanted
from atoll.store.layout import Store
from atoll.transfer.borrower import Holder

log = logging.getLogger(__name__)

REPORT_S = 1.0

Answer = Prefetching | Prefetched | NotPrefetched


class Prefetcher:
    """What is fetched for a ring to come.

    Args:
        store: Where models and shards lie.
        options: What the owner chose.
        holders: Who has the gateway's shards, by the sources that it names.
        send: Takes the answers for the gateway.
        tell: Takes one line at a time for the owner to read.
    """

    def __init__(
        self,
        store: Store,
        options: NodeOptions,
        *,
        holders: Callable[[Sequence[Source]], list[Holder]],
        send: Callable[[Answer], None],
        tell: Callable[[str], None],
    ) -> None:
        self._store = store
        self._options = options
        self._holders = holders
        self._send = send
        self._tell = tell
        self._orders: asyncio.Queue[Prefetch | None] = asyncio.Queue(maxsize=1)
        self._kept: ShardSeeker | None = None
        self._progress = (0, 0)

    def ask(self, order: Prefetch) -> None:
        """Fetch this; what was asked for before is wanted no more."""
        self._put(order)

    def stop(self) -> None:
        """A plan has come: its stage fetches what is still missing. What is here stays."""
        self._put(None)

    def release(self) -> None:
        """A stage is ready, or another shard is wanted: what was fetched may go again."""
        if self._kept is not None:
            self._kept.close()
        self._kept = None

    async def run(self) -> NoReturn:
        """Fetch what is asked for until cancelled."""
        try:
            order = await self._orders.get()
            while True:
                async with asyncio.TaskGroup() as tasks:
                    fetching = tasks.create_task(self._follow(order), name="prefetch")
                    newer = await self._orders.get()
                    if fetching.cancel() and order is not None:
                        self._decline(order)
                order = newer
        finally:
            self.release()

    def _put(self, order: Prefetch | None) -> None:
        if self._orders.full():
            passed_over = self._orders.get_nowait()
            if passed_over is not None:
                self._decline(passed_over)
        self._orders.put_nowait(order)

    def _decline(self, order: Prefetch) -> None:
        self._send(NotPrefetched(order.number, "something newer is wanted of this node"))

    async def _follow(self, order: Prefetch | None) -> None:
        if order is None:
            return
        self.release()
        try:
            async with asyncio.TaskGroup() as tasks:
                telling = tasks.create_task(self._tell_often(order), name="tell-prefetch")
                await self._fetch(order)
                telling.cancel()
        except* AtollError as group:
            error = group.exceptions[0]
            log.warning("prefetch.failed problem=%s", error)
            # Hints may name folders, which are the owner's business.
            problem = error.problem if isinstance(error, AtollError) else str(error)
            self._send(NotPrefetched(order.number, problem))
        else:
            self._send(Prefetched(order.number))

    async def _fetch(self, order: Prefetch) -> None:
        self._progress = (0, order.size_bytes)
        seeker = ShardSeeker(
            Wanted(
                *(order.model, order.n_layers, order.data_offset),
                *(order.first, order.last, order.shard),
            ),
            self._store,
            self._options,
            holders=self._holders(order.sources),
            progress=self._note,
        )
        try:
            await seeker.find()
        except BaseException:
            seeker.close()
            raise
        self._kept = seeker
        self._tell(f"layers {order.first} to {order.last - 1} are here for a ring to come")

    def _note(self, here_bytes: int, size_bytes: int) -> None:
        self._progress = (here_bytes, size_bytes)

    async def _tell_often(self, order: Prefetch) -> NoReturn:
        while True:
            await asyncio.sleep(REPORT_S)
            self._send(Prefetching(order.number, *self._progress))
