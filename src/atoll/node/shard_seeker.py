"""How a node comes by its shard: from the model here, from its address, or from who has it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from atoll.domain.bulk import ShardRange
from atoll.domain.control import Plan, Source, StagePlan
from atoll.domain.errors import AtollError, PullFailed
from atoll.domain.ids import ModelId, ShardId
from atoll.net.link import BulkLink
from atoll.net.transport import Transport
from atoll.node.options import NodeOptions
from atoll.store.cache import prune
from atoll.store.layout import FoundModel, Store, UnknownModel
from atoll.store.shards import ShardFile, ensure_shard, shard_path
from atoll.store.sources import is_remote
from atoll.store.uses import Hold, hold
from atoll.transfer.borrower import Holder
from atoll.transfer.fetch import borrow_shard

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A shard: layers [first, last) of a model of `n_layers`, and its hash.

    `data_offset` is where the weights begin in the model's file; 0: not known.
    """

    model: ModelId
    n_layers: int
    data_offset: int
    first: int
    last: int
    shard: ShardId


def wanted_of(plan: Plan, mine: StagePlan) -> Wanted:
    """The shard of one stage of a plan."""
    return Wanted(plan.model, plan.n_layers, plan.data_offset, mine.first, mine.last, mine.shard)


def holders_of(
    sources: Sequence[Source],
    transport: Transport,
    dial_gateway: Callable[[], Awaitable[BulkLink]],
) -> list[Holder]:
    """Who has a shard: the gateway, and whom it names."""

    def dialer(source: Source) -> Callable[[], Awaitable[BulkLink]]:
        return lambda: transport.dial_bulk(source.address, expected=source.node)

    others = [Holder(source.name, dialer(source)) for source in sources]
    return [Holder("the gateway", dial_gateway), *others]


class ShardSeeker:
    """Gets one shard, and keeps it in use until `close`.

    Args:
        wanted: Which one.
        store: Where models and shards lie.
        options: What the owner chose.
        holders: Who has the shard, the gateway first.
        progress: Told how many bytes of it are here, and in all; maybe in a thread.
    """

    def __init__(
        self,
        wanted: Wanted,
        store: Store,
        options: NodeOptions,
        *,
        holders: Sequence[Holder],
        progress: Callable[[int, int], None],
    ) -> None:
        self._wanted = wanted
        self._store = store
        self._options = options
        self._holders = holders
        self._progress = progress
        self._closed = threading.Event()
        self._hold: Hold | None = None

    async def find(self) -> ShardFile:
        """The shard's file; takes its time.

        Raises:
            AtollError: It cannot be had.
        """
        try:
            return await self._find()
        except OSError as error:
            raise AtollError(
                f"cannot cut the shard: {error.strerror or type(error).__name__}",
                hint=f"make room in {self._store.home}, or choose another folder with --store,"
                " then join again",
            ) from error

    def close(self) -> None:
        """Nobody needs the shard any more; a fetch in a thread ends soon."""
        self._closed.set()
        if self._hold is not None:
            self._hold.release()

    async def _find(self) -> ShardFile:
        wanted = self._wanted
        self._hold = hold(shard_path(self._store, wanted.model, wanted.first, wanted.last))
        try:
            shard = await asyncio.to_thread(self._cut_or_fetch) or await self._borrow()
        except PullFailed as error:
            if self._closed.is_set() or not is_remote(self._options.model):
                raise
            log.warning("shard.not_from_address problem=%s", error)
            shard = await self._borrow_instead(error)
        if self._options.cache_bytes_max is not None:
            await asyncio.to_thread(prune, self._store, self._options.cache_bytes_max)
        return shard

    def _cut_or_fetch(self) -> ShardFile | None:
        """From the model here, or from its address; None if neither is known."""
        wanted, model = self._wanted, self._options.model
        if not is_remote(model) or self._store.model_path(wanted.model).is_file():
            found = self._find_model()
            if found is None:
                return None
            return ensure_shard(
                *(self._store, found, wanted.first, wanted.last), expected=wanted.shard
            )
        # Most nodes need nothing of the web, and start sooner without.
        from atoll.store.remote import fetch_shard  # noqa: PLC0415 - see above

        return fetch_shard(
            *(self._store, model, wanted.model, wanted.first, wanted.last),
            expected=wanted.shard,
            data_offset=wanted.data_offset if wanted.last < wanted.n_layers else 0,
            progress=self._fetched,
        ).file

    async def _borrow(self) -> ShardFile:
        wanted = self._wanted
        found = await borrow_shard(
            self._store,
            ShardRange(wanted.model, wanted.first, wanted.last),
            self._holders,
            expected=wanted.shard,
            progress=self._progress,
        )
        log.info("shard.borrowed size=%d fetched=%d", found.file.size_bytes, found.fetched_bytes)
        return found.file

    async def _borrow_instead(self, failure: PullFailed) -> ShardFile:
        try:
            return await self._borrow()
        except AtollError as error:
            raise PullFailed(
                f"{failure.problem}; and from the gateway: {error.problem}", hint=failure.hint
            ) from error

    def _fetched(self, here_bytes: int, size_bytes: int | None) -> None:
        """Tell; ends a fetch that nobody waits for any more: what came is kept."""
        if self._closed.is_set():
            raise PullFailed("the stage was closed", hint="")
        self._progress(here_bytes, size_bytes or 0)

    def _find_model(self) -> FoundModel | None:
        """The plan's model on this machine; None if it is not here and was not asked for.

        Raises:
            UnknownModel: The owner named another model.
        """
        model = self._options.model
        if not model or is_remote(model):
            return whole_model(self._store, self._wanted.model)
        found = self._store.resolve(model)
        if found.model != self._wanted.model:
            raise UnknownModel(
                f"the model here is {found.model[:12]}, the plan's is {self._wanted.model[:12]}",
                hint=f"join with the same model file as the gateway, not with {model}",
            )
        return found


def whole_model(store: Store, model: str) -> FoundModel | None:
    """The model with this hash, if all of it is on this machine."""
    try:
        return store.resolve(model)
    except UnknownModel:
        return None
