"""What a node lends to others: shards that the gateway asked it to, to whom it named."""

from __future__ import annotations

from collections import deque
from contextlib import AbstractContextManager

from atoll.domain.bulk import ShardRange
from atoll.domain.control import Lend
from atoll.domain.errors import LinkFault
from atoll.domain.ids import NodeId
from atoll.model.source import ByteSource
from atoll.node.shard_seeker import whole_model
from atoll.store.layout import Store
from atoll.transfer.holdings import Holdings

LENDS_MAX = 64
"""Wishes of the gateway that are remembered; the oldest give way."""


class Lends:
    """The gateway's wishes, and the shards to meet them with.

    Args:
        store: Where models and shards lie.
    """

    def __init__(self, store: Store) -> None:
        self._holdings = Holdings(store, lambda model: whole_model(store, model))
        self._wishes: deque[Lend] = deque(maxlen=LENDS_MAX)

    def note(self, wish: Lend) -> None:
        """The gateway wants this lent."""
        self._wishes.append(wish)

    def authorise(self, peer: NodeId) -> None:
        """Let somebody in to whom something is to be lent.

        Raises:
            LinkFault: Nothing is.
        """
        if all(peer != wish.borrower for wish in self._wishes):
            raise LinkFault("the gateway did not ask this node to lend anything")

    def open(self, peer: NodeId, shard: ShardRange) -> AbstractContextManager[ByteSource]:
        """The shard, for a node that the gateway named with it.

        Raises:
            LinkFault: It did not.
        """
        if Lend(peer, shard.model, shard.first, shard.last) not in self._wishes:
            raise LinkFault("the gateway did not ask this node to lend that")
        return self._holdings.opened(shard)
