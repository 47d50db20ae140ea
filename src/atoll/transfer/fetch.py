"""A node's shard from those who have it, into the store: the gateway, and nodes it names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from atoll.domain.bulk import ShardRange
from atoll.domain.errors import BadModel, PullFailed
from atoll.domain.ids import ShardId
from atoll.store.disk import check_room, move_in
from atoll.store.layout import Store, locked, sha256_of
from atoll.store.shards import FetchedShard, kept_shard, note_shard, shard_path
from atoll.transfer.borrower import Borrower, Holder, Progress


async def borrow_shard(
    store: Store,
    shard: ShardRange,
    holders: Sequence[Holder],
    *,
    expected: ShardId,
    progress: Progress,
) -> FetchedShard:
    """The shard, fetched now if it is not here.

    A fetch that broke off, from here or from an address, goes on where it ended.

    Args:
        store: Where it is kept.
        shard: Which layers of which model.
        holders: Who has it; the first is the gateway.
        expected: The hash that it must have by the plan.
        progress: Told how many bytes of it are here.

    Raises:
        PullFailed: It cannot be fetched; what came is kept for the next attempt.
        LinkFault: The gateway cannot be reached.
        BadModel: The shard is another than expected; nothing was kept.
    """
    path = shard_path(store, shard.model, shard.first, shard.last)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    part = path.with_suffix(".part")
    async with _locked(path.with_suffix(".lock")):
        kept = await asyncio.to_thread(kept_shard, path, check_content=True)
        if kept is not None and kept.shard == expected:
            return FetchedShard(kept, 0)
        try:
            # The pieces' hashes tell what it holds; no note of its origin is true from here on.
            path.with_suffix(".part.json").unlink(missing_ok=True)
            part.touch(mode=0o600)
            with part.open("r+b") as out:
                borrower = Borrower(
                    *(shard, out),
                    progress=progress,
                    room=lambda size: check_room(part.parent, size),
                )
                await borrower.run(holders)
            digest = await asyncio.to_thread(sha256_of, part)
            if digest != expected:
                part.unlink()
                raise BadModel(
                    f"layers {shard.first} to {shard.last} came as {digest[:12]},"
                    f" but the plan says {expected[:12]}",
                    hint="use the same version of Atoll everywhere",
                )
            await asyncio.to_thread(move_in, part, path)
            size_bytes = path.stat().st_size
            return FetchedShard(note_shard(path, expected, size_bytes), borrower.fetched_bytes)
        except OSError as error:
            raise PullFailed(
                f"cannot write {part}: {error.strerror or error}",
                hint="free some space and try again; it goes on where it ended",
            ) from error


@asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[None]:
    """`locked`, without holding up the loop while somebody else has the lock."""
    lock = locked(path)
    getting = asyncio.get_running_loop().run_in_executor(None, lock.__enter__)
    try:
        await asyncio.shield(getting)
    except asyncio.CancelledError:
        # The thread cannot be stopped: what it gets later is given back at once.
        getting.add_done_callback(lambda _done: lock.__exit__(None, None, None))
        raise
    try:
        yield
    finally:
        lock.__exit__(None, None, None)
