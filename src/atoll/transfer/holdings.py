"""What a machine can lend: shards it has as files, and any part of a whole model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from atoll.domain.bulk import ShardRange
from atoll.domain.ids import ModelId
from atoll.model.gguf_types import GgufFile
from atoll.model.parts import open_bytes, open_model
from atoll.model.shard import ShardPlan, plan_shard
from atoll.model.shard_source import ShardSource
from atoll.model.source import ByteSource, FileSource
from atoll.store.layout import FoundModel, Store, UnknownModel
from atoll.store.shards import kept_shard, shard_path
from atoll.store.uses import hold


class Holdings:
    """Opens shards for reading; may be called by several threads.

    Args:
        store: Where shards lie.
        whole: Finds the whole model, or None where it is not here.
    """

    def __init__(self, store: Store, whole: Callable[[ModelId], FoundModel | None]) -> None:
        self._store = store
        self._whole = whole
        self._plans: dict[ShardRange, tuple[GgufFile, ShardPlan]] = {}
        self._planning = threading.Lock()

    @contextmanager
    def opened(self, shard: ShardRange) -> Iterator[ByteSource]:
        """The shard's file, or the same bytes out of the whole model, while the context lasts.

        Raises:
            UnknownModel: Neither is here.
            AtollError: The model cannot be cut there.
        """
        path = shard_path(self._store, shard.model, shard.first, shard.last)
        if path.exists():
            using = hold(path)
            try:
                if kept_shard(path, check_content=False) is not None:
                    with path.open("rb") as file:
                        yield FileSource(file)
                    return
            finally:
                using.release()
        model = self._whole(shard.model)
        if model is None:
            raise UnknownModel(
                f"layers {shard.first} to {shard.last} of model {shard.model[:12]} are not here"
            )
        gguf, plan = self._planned(shard, model)
        with open_bytes(model.path, gguf) as file:
            yield ShardSource(plan, FileSource(file))

    def _planned(self, shard: ShardRange, model: FoundModel) -> tuple[GgufFile, ShardPlan]:
        with self._planning:
            if shard not in self._plans:
                gguf = open_model(model.path)
                self._plans[shard] = (gguf, plan_shard(gguf, shard.first, shard.last))
            return self._plans[shard]
