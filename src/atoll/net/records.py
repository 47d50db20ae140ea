"""Small files of records that several processes of one owner read and change.

JSON, mode 0600, replaced in one step under a lock beside the file, and read
again when it changed, so that what a command writes needs no restart of the
gateway.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from atoll.domain.errors import AtollError
from atoll.net.private_file import PrivateFileFault, read_private, write_private

FILE_BYTES_MAX = 4 * 1024 * 1024

Content = TypeVar("Content", bound=msgspec.Struct)


class RecordFault(AtollError):
    """A file of records that is damaged, open to others, or cannot be written."""

    exit_code = 2


class _Versioned(msgspec.Struct, frozen=True):
    version: int


class RecordFile(Generic[Content]):
    """One such file.

    Args:
        path: Where it lies.
        empty: What a file that is not there holds. Its type, a frozen struct
            with a field `version`, is the type of every content.
        title: What it is called in errors ("key file").
        remedy: What its owner can do where it is damaged.
    """

    def __init__(self, path: Path, empty: Content, *, title: str, remedy: str) -> None:
        self._path = path
        self._empty = empty
        self._version = msgspec.convert(empty, _Versioned, from_attributes=True).version
        self._title = title
        self._remedy = remedy
        self._seen: tuple[int, int, int] | None = None
        self._content = empty

    def load(self) -> Content:
        """What the file holds; it is read only if it changed.

        Raises:
            RecordFault: It cannot be read, or is not what it should be.
        """
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._seen, self._content = None, self._empty
            return self._empty
        except OSError as error:
            raise self._unreadable(error) from error
        seen = (status.st_ino, status.st_mtime_ns, status.st_size)
        if seen == self._seen:
            return self._content
        try:
            content = read_private(self._path, bytes_max=FILE_BYTES_MAX)
            self._check_version(content)
            self._content = msgspec.json.decode(content, type=type(self._empty))
        except PrivateFileFault as error:
            raise RecordFault(error.problem, hint=error.hint) from error
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise self._unreadable(error) from error
        self._seen = seen
        return self._content

    def _check_version(self, content: bytes) -> None:
        version = msgspec.json.decode(content, type=_Versioned).version
        if version != self._version:
            raise RecordFault(
                f"the {self._title} {self._path} has version {version}",
                hint="use the release of atoll that wrote it",
            )

    def _unreadable(self, error: Exception) -> RecordFault:
        return RecordFault(
            f"the {self._title} {self._path} cannot be read: {error}", hint=self._remedy
        )

    def save(self, content: Content) -> None:
        """Replace the file in one step; a crash leaves the old or the new one.

        Raises:
            RecordFault: It cannot be written.
        """
        try:
            write_private(
                self._path, msgspec.json.format(msgspec.json.encode(content)), replace=True
            )
        except PrivateFileFault as error:
            raise RecordFault(error.problem, hint=error.hint) from error

    @contextmanager
    def locked(self) -> Iterator[Content]:
        """Keep other writers away inside the block; yields what the file holds.

        The lock is a file next to the records, which themselves get replaced.

        Raises:
            RecordFault: The lock cannot be had, or the records not be read.
        """
        lock = self._path.with_name(self._path.name + ".lock")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise RecordFault(
                f"the lock {lock} cannot be opened: {error}", hint="check the folder's owner"
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield self.load()
        finally:
            os.close(handle)
