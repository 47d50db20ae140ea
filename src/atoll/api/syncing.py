"""Journals onto the disk: all that were written to, together, many times a second, in a thread.

A sync can take long, and one for each token would make every answer wait for the disk.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

from atoll.api.journal import Journal

log = logging.getLogger(__name__)

GROUP_S = 0.1
"""What a loss of power can cost at most, beside the time that a sync takes."""


class Syncer:
    """Syncs journals and their folder; one task drives it.

    Args:
        folder: Where the journals lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: set[Journal] = set()
        self._closed: list[int] = []
        self._folder_changed = False
        self._wake = asyncio.Event()

    def note(self, journal: Journal, *, new: bool = False) -> None:
        """A journal was written to; `new`: it is new in its folder."""
        self._written.add(journal)
        self._folder_changed |= new
        self._wake.set()

    def close(self, journal: Journal) -> None:
        """Close a journal; what it holds is synced like the others."""
        if journal in self._written:
            self._written.discard(journal)
            self._closed.append(journal.duplicate())
        journal.close()

    async def run(self) -> None:
        """Sync whenever there is something, until cancelled; then once more."""
        try:
            while True:
                await self._wake.wait()
                await asyncio.sleep(GROUP_S)
                await asyncio.to_thread(self._take())
        finally:
            self._take()()

    def _take(self) -> _Group:
        """What is to be synced now, under descriptors of its own: journals may be closed."""
        self._wake.clear()
        fds = [journal.duplicate() for journal in self._written] + self._closed
        group = _Group(fds, self._folder if self._folder_changed else None)
        self._written.clear()
        self._closed = []
        self._folder_changed = False
        return group


class _Group:
    """Descriptors to sync and close; called in a thread."""

    def __init__(self, fds: list[int], folder: Path | None) -> None:
        self._fds, self._folder = fds, folder

    def __call__(self) -> None:
        for fd in self._fds:
            try:
                os.fsync(fd)
            except OSError as error:
                log.warning("journal.not_synced problem=%s", error.strerror)
            finally:
                os.close(fd)
        if self._folder is not None:
            self._sync_folder(self._folder)

    @staticmethod
    def _sync_folder(folder: Path) -> None:
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            log.warning("journal.folder_not_synced problem=%s", error.strerror)
            return
        try:
            os.fsync(fd)
        except OSError as error:
            log.warning("journal.folder_not_synced problem=%s", error.strerror)
        finally:
            os.close(fd)
