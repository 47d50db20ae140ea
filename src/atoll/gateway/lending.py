"""What the gateway lends: the shards of its ring, those that nodes time, and no others."""

from __future__ import annotations

from contextlib import AbstractContextManager

from atoll.domain.bulk import ShardRange
from atoll.domain.errors import BadRequest
from atoll.domain.ids import NodeId
from atoll.domain.measure import Measure
from atoll.gateway.shard_book import ShardBook
from atoll.model.source import ByteSource
from atoll.store.layout import FoundModel, Store
from atoll.transfer.holdings import Holdings


class Lending:
    """Opens shards of the served model for members.

    Args:
        model: The whole model.
        store: Where shards lie.
        book: Which shards rings are made of.
        order: Which shards nodes are asked to time; None: none.
    """

    def __init__(
        self, model: FoundModel, store: Store, book: ShardBook, order: Measure | None = None
    ) -> None:
        self._holdings = Holdings(store, lambda wanted: model if wanted == model.model else None)
        self._book = book
        asked = order.ranges if order else ()
        self._timed = {ShardRange(model.model, one.first, one.last) for one in asked}

    def open(self, _peer: NodeId, shard: ShardRange) -> AbstractContextManager[ByteSource]:
        """The shard, for whichever member asks.

        Raises:
            BadRequest: It is none of the ring's.
        """
        if shard not in self._book and shard not in self._timed:
            raise BadRequest(f"layers {shard.first} to {shard.last} are no stage of this ring")
        return self._holdings.opened(shard)
