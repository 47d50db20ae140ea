"""Keepers of parcels: where caches wait that left an engine, from the nearest to the farthest.

A parcel is encrypted by the engine process that made it, so that a keeper sees a name
and bytes that mean nothing. What is lost here is computed again: no keeper raises for
want of room, or for a disk or a peer that is gone.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import shutil
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

log = logging.getLogger(__name__)

FOLDER_MODE = 0o700
FILE_MODE = 0o600
RAM_BYTES_MAX = 4 * 1024**3
RAM_SHARE = 8
"""Unless told otherwise parcels take an eighth of the memory that is free, up to 4 GiB."""


class Keeper(Protocol):
    """One place for parcels."""

    async def put(self, name: str, blob: bytes) -> bool:
        """Keep a parcel, in place of one of this name; False: it is not kept."""

    async def get(self, name: str) -> bytes | None:
        """The parcel of this name, which stays; None: it is not here (any more)."""

    async def drop(self, name: str) -> None:
        """Forget a parcel, if there is one of this name."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """What a process may take for parcels.

    Args:
        ram_bytes: In memory.
        disk_bytes: On the disk.
        folder: Where on the disk, for this process alone; emptied when it starts.
    """

    ram_bytes: int = 0
    disk_bytes: int = 0
    folder: Path | None = None

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.ram_bytes + self.disk_bytes


def ram_bytes_default(available_bytes: int) -> int:
    """What parcels may take of the memory that is free."""
    return min(RAM_BYTES_MAX, available_bytes // RAM_SHARE)


class RamKeeper:
    """Parcels in this process's memory.

    Args:
        bytes_max: Most bytes of all of them.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._held: dict[str, bytes] = {}
        self.held_bytes = 0

    async def put(self, name: str, blob: bytes) -> bool:
        """Keep it if there is room."""
        await self.drop(name)
        if self.held_bytes + len(blob) > self._bytes_max:
            return False
        self._held[name] = blob
        self.held_bytes += len(blob)
        return True

    async def get(self, name: str) -> bytes | None:
        """The parcel, if it is here."""
        return self._held.get(name)

    async def drop(self, name: str) -> None:
        """Forget it."""
        self.held_bytes -= len(self._held.pop(name, b""))


class DiskKeeper:
    """Parcels as files that nobody else may read, in a folder of their own.

    Only the process that made them can decrypt them, so those of an earlier one are
    rubbish: the folder is removed first and last.

    Args:
        folder: Its folder; whoever opens it owns it alone.
        bytes_max: Most bytes of all files.
    """

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self._folder = folder
        self._bytes_max = bytes_max
        self._sizes: dict[str, int] = {}
        # A write that was cancelled goes on in its thread: none may come behind the end.
        self._writing = threading.Lock()
        self._is_closed = False
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=FOLDER_MODE, parents=True)
        folder.chmod(FOLDER_MODE)

    @property
    def held_bytes(self) -> int:
        """Bytes of all files."""
        return sum(self._sizes.values())

    async def put(self, name: str, blob: bytes) -> bool:
        """Keep it if there is room."""
        await self.drop(name)
        if self.held_bytes + len(blob) > self._bytes_max:
            return False
        self._sizes[name] = len(blob)
        try:
            await asyncio.to_thread(self._write, self._path(name), blob)
        except OSError as error:
            log.warning("keeping.not_written error=%s", error)
            await self.drop(name)
            return False
        return True

    async def get(self, name: str) -> bytes | None:
        """The parcel, if its file can be read."""
        if name not in self._sizes:
            return None
        try:
            return await asyncio.to_thread(self._path(name).read_bytes)
        except OSError as error:
            log.warning("keeping.not_read error=%s", error)
            await self.drop(name)
            return None

    async def drop(self, name: str) -> None:
        """Remove its file."""
        if self._sizes.pop(name, None) is None:
            return
        try:
            await asyncio.to_thread(self._path(name).unlink, missing_ok=True)
        except OSError as error:
            log.warning("keeping.not_removed error=%s", error)

    def close(self) -> None:
        """Remove the folder; nothing is kept any more."""
        with self._writing:
            self._is_closed = True
            shutil.rmtree(self._folder, ignore_errors=True)
        self._sizes.clear()

    def _write(self, path: Path, blob: bytes) -> None:
        with self._writing:
            if self._is_closed:
                raise FileNotFoundError("the folder is closed")
            path.unlink(missing_ok=True)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
            with os.fdopen(fd, "wb") as file:
                file.write(blob)

    def _path(self, name: str) -> Path:
        return self._folder / hashlib.sha256(name.encode()).hexdigest()


class Tiers:
    """Keepers as one: what comes last lies nearest, and the oldest moves on to make room.

    The oldest is the least valuable: a parcel's bytes and the work it saves both grow
    with its tokens, so that for each byte only the chance differs that the conversation
    goes on, which falls with time.

    Args:
        keepers: The nearest first; the last may be on another machine.
    """

    def __init__(self, keepers: Sequence[Keeper]) -> None:
        self._keepers = tuple(keepers)
        # By keeper: the size of each of its parcels, bytes, the oldest first.
        self._held: tuple[OrderedDict[str, int], ...] = tuple(OrderedDict() for _ in keepers)
        self._moving: dict[str, bytes] = {}
        self._changing = asyncio.Lock()

    @property
    def parcels(self) -> int:
        """How many are kept."""
        return sum(len(held) for held in self._held)

    @property
    def held_bytes(self) -> int:
        """Bytes of all that are kept."""
        return sum(sum(held.values()) for held in self._held)

    async def put(self, name: str, blob: bytes) -> bool:
        """Keep a parcel as near as its size allows."""
        async with self._changing:
            await self._drop(name)
            return await self._put(0, name, blob)

    async def get(self, name: str) -> bytes | None:
        """A parcel, wherever it is."""
        if name in self._moving:
            return self._moving[name]
        for keeper, held in zip(self._keepers, self._held, strict=True):
            if name in held:
                return await keeper.get(name)
        return None

    async def drop(self, name: str) -> None:
        """Forget a parcel, wherever it is."""
        async with self._changing:
            await self._drop(name)

    async def _drop(self, name: str) -> None:
        for keeper, held in zip(self._keepers, self._held, strict=True):
            if held.pop(name, None) is not None:
                await keeper.drop(name)

    async def _put(self, level: int, name: str, blob: bytes) -> bool:
        if level == len(self._keepers):
            return False
        keeper, held = self._keepers[level], self._held[level]
        freed_bytes = 0
        while not await keeper.put(name, blob):
            # One that has no room though as much was taken out of it is gone or too small.
            if freed_bytes >= len(blob) or freed_bytes + sum(held.values()) < len(blob):
                return await self._put(level + 1, name, blob)
            freed_bytes += await self._move_oldest(level)
        held[name] = len(blob)
        return True

    async def _move_oldest(self, level: int) -> int:
        """Take the oldest parcel of a keeper to the next; how many bytes that made free."""
        keeper, held = self._keepers[level], self._held[level]
        oldest, size_bytes = next(iter(held.items()))
        blob = await keeper.get(oldest)
        if blob is not None:
            self._moving[oldest] = blob
        del held[oldest]
        try:
            await keeper.drop(oldest)
            if blob is not None:
                await self._put(level + 1, oldest, blob)
        finally:
            self._moving.pop(oldest, None)
        return size_bytes


@dataclass(slots=True)
class OpenTiers:
    """The tiers of one engine process, and the folder that goes with them."""

    tiers: Tiers
    disk: DiskKeeper | None

    def close(self) -> None:
        """Forget everything: the key of the process that made it is gone."""
        if self.disk is not None:
            self.disk.close()


def open_tiers(keeping: Keeping, name: str, *further: Keeper) -> OpenTiers:
    """Memory, then the disk, then what else there is; none takes what it was given no room for.

    Args:
        keeping: Bounds.
        name: Of the folder on the disk: of one engine process alone.
        further: What comes behind the disk.
    """
    keepers: list[Keeper] = []
    if keeping.ram_bytes:
        keepers.append(RamKeeper(keeping.ram_bytes))
    disk = None
    if keeping.disk_bytes and keeping.folder is not None:
        try:
            keeping.folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            disk = DiskKeeper(keeping.folder / name, keeping.disk_bytes)
            keepers.append(disk)
        except OSError as error:
            log.warning("keeping.no_disk error=%s", error)
    return OpenTiers(Tiers((*keepers, *further)), disk)


def clear(keeping: Keeping) -> None:
    """Remove what an earlier process left on the disk: nobody can decrypt it any more."""
    if keeping.folder is not None:
        shutil.rmtree(keeping.folder, ignore_errors=True)
