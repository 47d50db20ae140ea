"""Keeps streams so that they can be gone on with: by their id, or by the client's own key.

    HOME/streams/STREAM.journal   mode 0600 in a folder of mode 0700

At any time one request holds a stream; another that wants it takes it over. What
nobody held for a while is deleted. Where a journal cannot be written its stream goes
on without one, and the operator is told.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from atoll.api.errors import ApiError
from atoll.api.held import Entry, Held, no_such_stream
from atoll.api.journal import (
    FormName,
    Head,
    Journal,
    JournalFault,
    Read,
    Record,
    read_head,
    read_journal,
)
from atoll.api.params import Job
from atoll.api.syncing import Syncer
from atoll.net.private_file import PrivateFileFault

log = logging.getLogger(__name__)

FOLDER = "streams"
KEEP_S = 600
STREAMS_MAX = 4096
BYTES_MAX = 1 << 30
TELL_S = 60.0
"""How often the operator is told of the same trouble, at most."""
SWEEP_S = 5.0
LET_GO_S = 10.0
"""How long a request may take to let its stream go: it has only to close its generations."""
_SUFFIX = ".journal"
_STREAM = re.compile(r"strm-[0-9a-f]{32}")
_STREAM_BYTES = 16


@dataclass(frozen=True, slots=True)
class StreamKeeping:
    """How long and how much is kept; `seconds` count from when a stream was last held."""

    seconds: float = KEEP_S
    streams_max: int = STREAMS_MAX
    bytes_max: int = BYTES_MAX


class Keeper:
    """All kept streams of a gateway. `open_keeper` makes one.

    Args:
        folder: Where the journals lie.
        model: SHA-256 of the served model; streams of another one cannot go on.
        keeping: How long and how much.
        tell: Takes one line at a time for the operator to read.
        now_s: The clock, in seconds from anywhere.
    """

    def __init__(
        self,
        folder: Path,
        model: str,
        keeping: StreamKeeping,
        *,
        tell: Callable[[str], None],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._model, self._keeping = folder, model, keeping
        self._tell, self._now_s = tell, now_s
        # In the order in which they were let go; those that are held may be anywhere.
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._by_client_key: dict[tuple[str, str], Entry] = {}
        self._n_bytes = 0
        self._told_s = float("-inf")
        self._syncer = Syncer(folder)

    @property
    def n_streams(self) -> int:
        """How many streams are kept."""
        return len(self._entries)

    @property
    def n_bytes(self) -> int:
        """What they take on the disk."""
        return self._n_bytes

    def load(self) -> None:
        """Find what an earlier gateway left; blocks.

        Raises:
            PrivateFileFault: The folder cannot be used.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.chmod(0o700)
            paths = sorted(self._folder.glob(f"*{_SUFFIX}"), key=lambda p: p.stat().st_mtime)
        except OSError as error:
            raise PrivateFileFault(
                f"cannot use {self._folder}: {error.strerror}", hint="choose another --home"
            ) from error
        for path in paths:
            self._load_one(path)
        log.info("streams.found n=%d bytes=%d", len(self._entries), self._n_bytes)

    def _load_one(self, path: Path) -> None:
        try:
            status = path.stat()
            head = read_head(path)
            if head.stream != path.name.removesuffix(_SUFFIX):
                raise JournalFault("a journal has another stream's name")
        except (OSError, JournalFault) as error:
            log.warning("streams.unreadable problem=%s", error)
            path.unlink(missing_ok=True)
            return
        idle_s = max(0.0, time.time() - status.st_mtime)
        entry = self._enter(head, status.st_size, self._now_s() - idle_s)
        if idle_s > self._keeping.seconds:
            self.forget(entry)

    def _enter(self, head: Head, n_bytes: int, used_s: float) -> Entry:
        entry = Entry(*(head.stream, head.key, head.idempotency, head.digest), n_bytes, used_s)
        self._entries[entry.stream] = entry
        if entry.idempotency:
            self._by_client_key[entry.key, entry.idempotency] = entry
        self._n_bytes += n_bytes
        return entry

    async def run(self) -> None:
        """Sync and delete, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._syncer.run(), name="sync-journals")
            while True:
                await asyncio.sleep(min(SWEEP_S, self._keeping.seconds))
                self.sweep()

    def sweep(self) -> None:
        """Delete what was kept for long enough."""
        oldest_s = self._now_s() - self._keeping.seconds
        for entry in list(self._entries.values()):
            if entry.holder is None and entry.used_s < oldest_s:
                self.forget(entry)

    # New streams

    def find(self, key: str, idempotency: str, digest: str) -> str | None:
        """The stream of an earlier request with the same key of the client's; None: there is none.

        Args:
            key: Id of the API key.
            idempotency: The client's key; empty: none.
            digest: SHA-256 of the request.

        Raises:
            ApiError: 422: that was another request.
        """
        entry = self._by_client_key.get((key, idempotency)) if idempotency else None
        if entry is None:
            return None
        if entry.digest != digest:
            raise ApiError(
                "this idempotency key was used for another request",
                hint="send a new key with a new request",
                status=422,
                code="idempotency_key_reused",
                param="idempotency-key",
            )
        return entry.stream

    def create(
        self, job: Job, form: FormName, *, key: str, idempotency: str = "", digest: str = ""
    ) -> Held | None:
        """Begin to keep a stream; None where there is no room for it."""
        stream = f"strm-{secrets.token_hex(_STREAM_BYTES)}"
        head = Head(stream, key, form, self._model, job, idempotency, digest)
        if not self._make_room(1):
            self._trouble("too many streams are kept at once: new ones cannot be resumed")
            return None
        try:
            journal = Journal.create(self._path(stream), head)
        except JournalFault as error:
            self._trouble(f"new streams cannot be resumed: {error}")
            return None
        entry = self._enter(head, journal.n_bytes, self._now_s())
        entry.holder = held = Held(self, entry)
        held.begin(journal)
        self._syncer.note(journal, new=True)
        return held

    def _make_room(self, n_new: int) -> bool:
        """Whether there is room for so many more; those that nobody holds make it."""
        keeping = self._keeping
        while len(self._entries) + n_new > keeping.streams_max or self._n_bytes > keeping.bytes_max:
            leaving = self._next_to_leave()
            if leaving is None:
                return False
            self.forget(leaving)
        return True

    def _next_to_leave(self) -> Entry | None:
        """Of the key that has most streams which nobody holds, the oldest: one key's many are
        not to push out another's few.
        """
        idle = [entry for entry in self._entries.values() if entry.holder is None]
        if not idle:
            return None
        [(key, _)] = Counter(entry.key for entry in idle).most_common(1)
        return next(entry for entry in idle if entry.key == key)

    # Going on

    async def claim(self, stream: str, key: str) -> tuple[Head, Held]:
        """Take a stream, from another request if need be: what was asked, and what there is.

        Args:
            stream: Its id, as the client says.
            key: Id of the API key that asks.

        Raises:
            ApiError: 404: there is none for this key. 409: it cannot be had now, or
                another model is served by now.
        """
        entry = self._entries.get(stream) if _STREAM.fullmatch(stream) else None
        if entry is None or entry.key != key:
            raise no_such_stream()
        await self._wait_free(entry)
        if self._entries.get(stream) is not entry:
            raise no_such_stream()
        path = self._path(stream)
        entry.holder = held = Held(self, entry)
        try:
            read = await asyncio.to_thread(read_journal, path)
            self._check_model(read)
            held.begin(Journal.reopen(path, read.n_bytes))
        except JournalFault as error:
            log.warning("streams.unreadable problem=%s", error)
            self.forget(entry)
            held.release()
            raise no_such_stream() from error
        except BaseException:
            held.release()
            raise
        self._n_bytes += read.n_bytes - entry.n_bytes
        entry.n_bytes = read.n_bytes
        held.goes_on, held.ended = True, read.ended
        held.tokens.extend(read.tokens)
        return read.head, held

    async def _wait_free(self, entry: Entry) -> None:
        try:
            async with asyncio.timeout(LET_GO_S):
                while entry.holder is not None:
                    entry.holder.taken.set()
                    await entry.holder.released.wait()
        except TimeoutError:
            raise ApiError(
                "another request holds this stream and does not let it go",
                hint="try again in a moment",
                status=409,
                code="stream_busy",
                headers={"retry-after": "1"},
            ) from None

    def _check_model(self, read: Read) -> None:
        if read.head.model != self._model:
            raise ApiError(
                "this stream is of another model than is served now",
                hint="ask anew",
                status=409,
                code="model_changed",
            )

    # What a held stream asks for

    def append(self, entry: Entry, journal: Journal, record: Record) -> None:
        """Write a record of a stream that is held; without room it is kept no more."""
        before = journal.n_bytes
        try:
            journal.append(record)
        except JournalFault as error:
            self._trouble(f"a stream goes on, but cannot be resumed any more: {error}")
            self.forget(entry)
            return
        added = journal.n_bytes - before
        entry.n_bytes += added
        self._n_bytes += added
        self._syncer.note(journal)
        if not self._make_room(0):
            self._trouble("the streams that are kept take too much: one cannot be resumed any more")
            self.forget(entry)

    def forget(self, entry: Entry) -> None:
        """Delete a stream; who holds it goes on without."""
        if self._entries.pop(entry.stream, None) is None:
            return
        if self._by_client_key.get((entry.key, entry.idempotency)) is entry:
            del self._by_client_key[entry.key, entry.idempotency]
        self._n_bytes -= entry.n_bytes
        if entry.holder is not None:
            self._close(entry.holder)
        try:
            self._path(entry.stream).unlink(missing_ok=True)
        except OSError as error:
            self._trouble(f"a stream's journal cannot be deleted: {error.strerror}")

    def let_go(self, entry: Entry, held: Held) -> None:
        """Nobody holds it any more; its time begins anew."""
        self._close(held)
        if entry.holder is held:
            entry.holder = None
        if self._entries.get(entry.stream) is entry:
            entry.used_s = self._now_s()
            self._entries.move_to_end(entry.stream)
            try:
                os.utime(self._path(entry.stream))
            except OSError as error:
                log.warning("streams.not_touched problem=%s", error.strerror)

    def close(self) -> None:
        """Close what is still held; its holders write no more."""
        for entry in self._entries.values():
            if entry.holder is not None:
                self._close(entry.holder)

    def _close(self, held: Held) -> None:
        journal = held.cease()
        if journal is not None:
            self._syncer.close(journal)

    def _path(self, stream: str) -> Path:
        return self._folder / f"{stream}{_SUFFIX}"

    def _trouble(self, line: str) -> None:
        log.warning("streams.trouble problem=%s", line)
        if self._now_s() - self._told_s >= TELL_S:
            self._told_s = self._now_s()
            self._tell(line)


@asynccontextmanager
async def open_keeper(
    folder: Path, model: str, keeping: StreamKeeping, *, tell: Callable[[str], None]
) -> AsyncIterator[Keeper | None]:
    """Keep streams inside the block; None where they are to be kept for no time.

    Raises:
        AtollError: The folder cannot be used.
    """
    if keeping.seconds <= 0:
        yield None
        return
    keeper = Keeper(folder, model, keeping, tell=tell)
    await asyncio.to_thread(keeper.load)
    try:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(keeper.run(), name="keep-streams")
            try:
                yield keeper
            finally:
                keeper.close()
                running.cancel()
    except ExceptionGroup as group:
        # What the caller's block raised is the caller's, not a group's.
        if len(group.exceptions) > 1:
            raise
        raise group.exceptions[0] from None
