"""Journals onto the disk in groups, off the event loop."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest
from tests.api.test_journal import HEAD, TOKENS

from atoll.api import syncing
from atoll.api.journal import Journal, Token
from atoll.api.syncing import Syncer


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """What was synced, by inode, and whether in the main thread."""
    found: list[tuple[int, bool]] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        real(fd)
        main = threading.current_thread() is threading.main_thread()
        found.append((os.fstat(fd).st_ino, main))

    monkeypatch.setattr(os, "fsync", fsync)
    return found


async def until(condition: object) -> None:
    async with asyncio.timeout(5):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.01)


async def test_all_that_were_written_to_are_synced_together(
    tmp_path: Path, synced: list[tuple[int, bool]]
) -> None:
    syncer = Syncer(tmp_path)
    journals = [Journal.create(tmp_path / name, HEAD) for name in "abc"]
    inodes = [journal.path.stat().st_ino for journal in journals]
    folder = tmp_path.stat().st_ino
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(syncer.run())
        for journal in journals[:2]:
            syncer.note(journal, new=True)
        for _ in range(5):
            journals[0].append(Token.of(0, TOKENS[0]))
            syncer.note(journals[0])
        await until(lambda: len(synced) >= 3)
        # One sync for many records, none for the journal that nobody wrote to.
        assert sorted(synced) == sorted((inode, False) for inode in [*inodes[:2], folder])
        synced.clear()
        syncer.note(journals[2])
        await until(lambda: synced)
        assert synced == [(inodes[2], False)]
        running.cancel()
    for journal in journals:
        syncer.close(journal)


async def test_a_closed_journal_is_synced_too(
    tmp_path: Path, synced: list[tuple[int, bool]]
) -> None:
    syncer = Syncer(tmp_path)
    journal = Journal.create(tmp_path / "a", HEAD)
    syncer.note(journal)
    syncer.close(journal)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(syncer.run())
        await until(lambda: synced)
        running.cancel()
    assert synced == [((tmp_path / "a").stat().st_ino, False)]


async def test_what_is_left_at_the_end_is_synced(
    tmp_path: Path, synced: list[tuple[int, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syncing, "GROUP_S", 60)
    syncer = Syncer(tmp_path)
    journal = Journal.create(tmp_path / "a", HEAD)
    syncer.note(journal)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(syncer.run())
        await asyncio.sleep(0.01)
        assert synced == []
        running.cancel()
    assert len(synced) == 1
    journal.close()


async def test_a_disk_that_fails_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    syncer = Syncer(tmp_path)
    journal = Journal.create(tmp_path / "a", HEAD)
    syncer.note(journal, new=True)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(syncer.run())
        await until(lambda: "journal.folder_not_synced" in caplog.text)
        running.cancel()
    assert "journal.not_synced problem=Input/output error" in caplog.text
    journal.close()
