"""A shard that was never written: any part of its file, read out of the model's."""

from __future__ import annotations

from bisect import bisect_right

from atoll.domain.errors import BadModel
from atoll.model.gguf_types import PULL_AGAIN
from atoll.model.shard import ShardPart, ShardPlan, shard_parts
from atoll.model.source import ByteSource


class ShardSource:
    """The file of a planned shard, as a `ByteSource` over the model's.

    Args:
        plan: What the shard holds.
        model: The model's file.
    """

    def __init__(self, plan: ShardPlan, model: ByteSource) -> None:
        self._model = model
        self._parts: list[ShardPart] = []
        self._starts: list[int] = []
        at = 0
        for part in shard_parts(plan):
            if part.size:
                self._parts.append(part)
                self._starts.append(at)
                at += part.size
        self._size_bytes = at

    @property
    def size_bytes(self) -> int:
        """Size of the shard's file."""
        return self._size_bytes

    def read(self, offset: int, size: int) -> bytes:
        """As `ByteSource.read`.

        Raises:
            BadModel: The model's file is shorter than it was when planned.
        """
        stop = min(offset + size, self._size_bytes)
        index, found = bisect_right(self._starts, offset) - 1, []
        while offset < stop:
            part, skipped = self._parts[index], offset - self._starts[index]
            chunk = self._of(part, skipped, min(part.size - skipped, stop - offset))
            found.append(chunk)
            offset += len(chunk)
            index += 1
        return b"".join(found)

    def _of(self, part: ShardPart, skipped: int, size: int) -> bytes:
        if part.data:
            return part.data[skipped : skipped + size]
        if part.source is None:
            return bytes(size)
        found = self._model.read(part.source + skipped, size)
        if len(found) != size:
            raise BadModel("the model file shrank while it was read", hint=PULL_AGAIN)
        return found
