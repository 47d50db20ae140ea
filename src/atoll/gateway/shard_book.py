"""Hashes of the served model's shards, made when a range is first planned."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path

from atoll.domain.bulk import ShardRange
from atoll.domain.ids import ModelId
from atoll.model.manifest import ShardEntry
from atoll.model.shard import hash_shard


class ShardBook:
    """The shards that have a part in this gateway's rings.

    Args:
        path: The whole model.
        model: Its SHA-256.
        known: Entries that were made already.
    """

    def __init__(self, path: Path, model: ModelId, known: Iterable[ShardEntry] = ()) -> None:
        self._path = path
        self._model = model
        self._entries = {(entry.first, entry.last): entry for entry in known}

    async def entries(self, ranges: Sequence[tuple[int, int]]) -> tuple[ShardEntry, ...]:
        """An entry for each range of layers; a new range reads its part of the model.

        Raises:
            CannotCut: The model cannot be cut there.
            BadModel: The model's file is not sound.
        """
        for first, last in ranges:
            if (first, last) not in self._entries:
                digest = await asyncio.to_thread(hash_shard, self._path, first, last)
                entry = ShardEntry(first, last, digest.shard, digest.size_bytes)
                self._entries[first, last] = entry
        return tuple(self._entries[layers] for layers in ranges)

    def __contains__(self, shard: ShardRange) -> bool:
        """Whether a shard is one of these."""
        return shard.model == self._model and (shard.first, shard.last) in self._entries
