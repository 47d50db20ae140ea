"""Blobs of others in lent memory: whose they are, how much each may take, when they go.

Pure: no clock or link; callers pass `now_s`. A name counts for its owner alone, so that
nobody reads, replaces or drops what is another's.

Who may borrow has a share of the memory that nobody takes away; beyond it a blob stays
while there is room. Where there is none, room is made by those that are most above
their share, of each the least recently used blob first: a conversation that rested
longest is the least likely to go on. Only where that is not enough is there no room.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from atoll.domain.ids import NodeId
from atoll.domain.lent_memory import part_bytes, parts_of

IDLE_S = 3600.0
"""After what time an unused blob goes."""
LOST_S = 600.0
"""How long the blobs of a borrower without a link are kept: a node may come back."""
BLOB_OVERHEAD_BYTES = 1024
"""Counted for each blob beside its bytes: its name and what keeps track of it."""


class Blob:
    """One blob, maybe not whole yet; its bytes are in parts, as they came."""

    __slots__ = ("name", "owner", "parts", "size_bytes", "used_s")

    def __init__(self, owner: NodeId, name: str, size_bytes: int, now_s: float) -> None:
        self.owner, self.name, self.size_bytes = owner, name, size_bytes
        self.used_s = now_s
        self.parts: list[bytes] = []

    @property
    def is_whole(self) -> bool:
        """Whether all of it has come."""
        return len(self.parts) == parts_of(self.size_bytes)

    @property
    def cost_bytes(self) -> int:
        """What it counts for."""
        return self.size_bytes + BLOB_OVERHEAD_BYTES


class BlobStore:
    """All blobs.

    Args:
        lent_bytes: What they may take together.
        idle_s: After what time an unused blob goes.
        lost_s: How long those of a borrower without a link are kept.
    """

    def __init__(self, lent_bytes: int, *, idle_s: float = IDLE_S, lost_s: float = LOST_S) -> None:
        self._lent_bytes = lent_bytes
        self._idle_s, self._lost_s = idle_s, lost_s
        self._named: set[NodeId] = set()
        # By owner, each the least recently used first.
        self._blobs: dict[NodeId, OrderedDict[str, Blob]] = {}
        self._used: dict[NodeId, int] = {}
        self._lost: dict[NodeId, float] = {}

    @property
    def used_bytes(self) -> int:
        """What all blobs count for, those that are coming among them."""
        return sum(self._used.values())

    @property
    def blobs(self) -> int:
        """How many there are."""
        return sum(map(len, self._blobs.values()))

    @property
    def share_bytes(self) -> int:
        """What nobody takes away from a borrower."""
        return self._lent_bytes // max(1, len(self._named))

    def name(self, peer: NodeId) -> None:
        """This one may borrow."""
        self._named.add(peer)

    def unname(self, peer: NodeId) -> None:
        """This one may not any more, and has no share."""
        self._named.discard(peer)

    def linked(self, peer: NodeId) -> None:
        """A borrower has a link."""
        self._lost.pop(peer, None)

    def lost(self, peer: NodeId, now_s: float) -> None:
        """A borrower has no link any more."""
        if peer in self._blobs:
            self._lost[peer] = now_s

    def begin(self, owner: NodeId, name: str, size_bytes: int, now_s: float) -> Blob | None:
        """Make room for a blob, in place of one of this name; None: there is none.

        Where there is no room nothing is touched.
        """
        blob = Blob(owner, name, size_bytes, now_s)
        old = self._named_so(owner, name)
        victims = self._victims(blob, old)
        if victims is None:
            return None
        for victim in victims:
            self._remove(victim)
        self._blobs.setdefault(owner, OrderedDict())[name] = blob
        self._used[owner] = self._used.get(owner, 0) + blob.cost_bytes
        return blob

    def add(self, blob: Blob, data: bytes, now_s: float) -> bool:
        """Take the next part; False: the blob had to go meanwhile.

        Raises:
            ValueError: The part is not as long as it has to be.
        """
        index = len(blob.parts)
        if blob.is_whole or len(data) != part_bytes(blob.size_bytes, index):
            raise ValueError(f"part {index} of {len(data)} bytes")
        if not self.is_held(blob):
            return False
        blob.parts.append(data)
        self._touch(blob, now_s)
        return True

    def find(self, owner: NodeId, name: str, now_s: float) -> Blob | None:
        """The whole blob of this owner and name."""
        blob = self._named_so(owner, name)
        if blob is None or not blob.is_whole:
            return None
        self._touch(blob, now_s)
        return blob

    def is_held(self, blob: Blob) -> bool:
        """Whether it is still here, and no other in its place."""
        return self._named_so(blob.owner, blob.name) is blob

    def drop(self, owner: NodeId, name: str) -> None:
        """Forget a blob, if its owner has one of this name."""
        blob = self._named_so(owner, name)
        if blob is not None:
            self._remove(blob)

    def abandon(self, blob: Blob) -> None:
        """Forget a blob that will not become whole."""
        if self.is_held(blob) and not blob.is_whole:
            self._remove(blob)

    def expire(self, now_s: float) -> int:
        """Forget what nobody used for long, or whose owner is away too long; how many."""
        due = [
            blob
            for owner, blobs in self._blobs.items()
            for blob in blobs.values()
            if blob.used_s + self._idle_s <= now_s
            or self._lost.get(owner, now_s) + self._lost_s <= now_s
        ]
        for blob in due:
            self._remove(blob)
        return len(due)

    def _named_so(self, owner: NodeId, name: str) -> Blob | None:
        blobs = self._blobs.get(owner)
        return blobs.get(name) if blobs is not None else None

    def _victims(self, blob: Blob, old: Blob | None) -> list[Blob] | None:
        """What has to go for a blob; None: it cannot be had."""
        used = dict(self._used)
        left = {owner: iter(blobs.values()) for owner, blobs in self._blobs.items()}
        used[blob.owner] = used.get(blob.owner, 0) + blob.cost_bytes
        found: list[Blob] = []
        if old is not None:
            used[blob.owner] -= old.cost_bytes
            found.append(old)
        while sum(used.values()) > self._lent_bytes:
            victim = self._next_victim(used, left, old)
            if victim is None:
                return None
            used[victim.owner] -= victim.cost_bytes
            found.append(victim)
        return found

    def _next_victim(
        self, used: dict[NodeId, int], left: dict[NodeId, Iterator[Blob]], old: Blob | None
    ) -> Blob | None:
        """The oldest blob of who is most above its share and has one."""
        for owner in sorted(left, key=lambda o: self._excess(o, used), reverse=True):
            if self._excess(owner, used) <= 0:
                break
            victim = next((b for b in left[owner] if b is not old), None)
            if victim is not None:
                return victim
        return None

    def _excess(self, owner: NodeId, used: dict[NodeId, int]) -> int:
        return used[owner] - (self.share_bytes if owner in self._named else 0)

    def _touch(self, blob: Blob, now_s: float) -> None:
        blob.used_s = now_s
        self._blobs[blob.owner].move_to_end(blob.name)

    def _remove(self, blob: Blob) -> None:
        owner = blob.owner
        del self._blobs[owner][blob.name]
        self._used[owner] -= blob.cost_bytes
        if not self._blobs[owner]:
            del self._blobs[owner], self._used[owner]
            self._lost.pop(owner, None)
