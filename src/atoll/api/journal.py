"""The session journal: what it takes to go on with an answer, written before a client sees it.

One file for each answer, of records that are only ever added: the head (the request
as generations), every token in the order in which they came, the end. A record is its
length, a checksum and msgpack, so that what a crash left half written at the end of a
file is recognised and cut off. What is written outlives the process; a loss of power
costs what was not yet synced (`api.syncing`).
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from atoll.api.params import Job
from atoll.domain.errors import AtollError
from atoll.domain.generation import FinishReason, Sampled, TopLogprob

MAGIC = b"atoll-journal-1\n"
RECORD_BYTES_MAX = 64 * 1024 * 1024
FormName = Literal["chat", "text"]

_FRAME = struct.Struct("<II")
"""Length of a record's msgpack in bytes, and its CRC-32 (zlib's)."""


class JournalFault(AtollError):
    """A journal that cannot be written or read; its stream cannot be resumed."""


class Head(msgspec.Struct, frozen=True):
    """What was asked: `job` has its seeds drawn, so that the answer is settled.

    `key` is the id of the API key that asked, `model` the served model's SHA-256,
    `idempotency` the client's key for the request and `digest` the request's SHA-256,
    both empty where it gave none.
    """

    stream: str
    key: str
    form: FormName
    model: str
    job: Job
    idempotency: str = ""
    digest: str = ""


class Token(msgspec.Struct, frozen=True, array_like=True, tag="t"):
    """A token of choice `index`; `top` are token, bytes, log-probability."""

    index: int
    token: int
    piece: bytes
    finish: FinishReason | None = None
    cached: int = 0
    logprob: float | None = None
    top: tuple[tuple[int, bytes, float], ...] = ()

    @classmethod
    def of(cls, index: int, sampled: Sampled) -> Token:
        """The record of a sampled token."""
        top = tuple((t.token, t.piece, t.logprob) for t in sampled.top)
        return cls(
            *(index, sampled.token, sampled.piece, sampled.finish),
            *(sampled.cached, sampled.logprob, top),
        )

    @property
    def sampled(self) -> Sampled:
        """What was recorded."""
        top = tuple(TopLogprob(*entry) for entry in self.top)
        return Sampled(self.token, self.piece, self.finish, self.logprob, top, self.cached)


class End(msgspec.Struct, frozen=True, array_like=True, tag="e"):
    """Every choice has ended."""


Record = Token | End

_encode = msgspec.msgpack.Encoder().encode
_decode_head = msgspec.msgpack.Decoder(Head).decode
_decode_record = msgspec.msgpack.Decoder(Record).decode


def framed(content: bytes) -> bytes:
    """A record as it lies in the file."""
    return _FRAME.pack(len(content), zlib.crc32(content)) + content


class Journal:
    """A journal that is being written; `n_bytes` is how long it is."""

    def __init__(self, path: Path, fd: int, n_bytes: int) -> None:
        self.path = path
        self.n_bytes = n_bytes
        self._fd = fd

    @classmethod
    def create(cls, path: Path, head: Head) -> Journal:
        """Begin one.

        Raises:
            JournalFault: It cannot be written; nothing is left of it.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            journal = cls(path, os.open(path, flags, 0o600), 0)
        except OSError as error:
            raise _cannot("begun", error) from error
        try:
            journal._write(MAGIC + framed(_encode(head)))
        except JournalFault:
            journal.close()
            path.unlink(missing_ok=True)
            raise
        return journal

    @classmethod
    def reopen(cls, path: Path, n_bytes: int) -> Journal:
        """Go on with one whose first `n_bytes` are sound; the rest is cut off.

        Raises:
            JournalFault: It cannot be written.
        """
        try:
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
            os.ftruncate(fd, n_bytes)
        except OSError as error:
            raise _cannot("gone on with", error) from error
        return cls(path, fd, n_bytes)

    def append(self, record: Record) -> None:
        """Add a record.

        Raises:
            JournalFault: The disk is full, or broken.
        """
        self._write(framed(_encode(record)))

    def _write(self, data: bytes) -> None:
        try:
            written = os.write(self._fd, data)
        except OSError as error:
            raise _cannot("written", error) from error
        if written < len(data):
            # The system wrote what there was room for.
            raise _cannot("written", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        self.n_bytes += written

    def duplicate(self) -> int:
        """Another descriptor of the file, which the caller closes."""
        return os.dup(self._fd)

    def close(self) -> None:
        """Write no more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


@dataclass(frozen=True, slots=True)
class Read:
    """What a journal holds; its first `n_bytes` are sound."""

    head: Head
    tokens: tuple[Token, ...]
    ended: bool
    n_bytes: int


def read_journal(path: Path) -> Read:
    """Everything up to the first record that is not whole.

    Raises:
        JournalFault: It cannot be read, or not even its head is whole.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _cannot("read", error) from error
    head, at = _head_of(content)
    tokens: list[Token] = []
    ended = False
    while (found := _record_at(content, at)) is not None:
        try:
            record = _decode_record(found)
        except msgspec.MsgspecError:
            break
        at += _FRAME.size + len(found)
        if isinstance(record, End):
            ended = True
        elif record.index < len(head.job.requests):
            tokens.append(record)
        else:
            raise JournalFault("a journal names a choice that was not asked for")
    return Read(head, tuple(tokens), ended, at)


def read_head(path: Path) -> Head:
    """The head alone.

    Raises:
        JournalFault: It cannot be read, or is not whole.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(MAGIC) + _FRAME.size)
            size, _ = _FRAME.unpack(start[len(MAGIC) :].ljust(_FRAME.size, b"\0"))
            content = start + file.read(min(size, RECORD_BYTES_MAX))
    except OSError as error:
        raise _cannot("read", error) from error
    return _head_of(content)[0]


def _head_of(content: bytes) -> tuple[Head, int]:
    """The head, and where the records after it begin."""
    found = _record_at(content, len(MAGIC)) if content.startswith(MAGIC) else None
    if found is None:
        raise JournalFault("a journal has no whole head")
    try:
        return _decode_head(found), len(MAGIC) + _FRAME.size + len(found)
    except msgspec.MsgspecError as error:
        raise JournalFault("a journal was written by another version") from error


def _record_at(content: bytes, at: int) -> bytes | None:
    """The msgpack of the record that begins at `at`; None if it is not whole."""
    if at + _FRAME.size > len(content):
        return None
    size, checksum = _FRAME.unpack_from(content, at)
    record = content[at + _FRAME.size : at + _FRAME.size + size]
    if size > RECORD_BYTES_MAX or len(record) < size or zlib.crc32(record) != checksum:
        return None
    return record


def _cannot(what: str, error: OSError) -> JournalFault:
    return JournalFault(
        f"a stream's journal cannot be {what}: {error.strerror}",
        hint="make room on the disk of the home, or see to its rights",
    )
