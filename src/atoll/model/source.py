"""Where a model's bytes come from: anything that can be read at an offset.

Reading and cutting a model need no more than this, and do not know whether
the bytes lie on a disk or behind a network.
"""

from __future__ import annotations

import os
from typing import BinaryIO, Protocol


class ByteSource(Protocol):
    """A file, wherever it is."""

    @property
    def size_bytes(self) -> int:
        """Size of the whole file."""
        ...

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on, fewer only where the file ends."""
        ...


class FileSource:
    """An open file as a source; it may be at any position."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._at = self._size_bytes = file.seek(0, os.SEEK_END)

    @property
    def size_bytes(self) -> int:
        """Size of the file when it was opened."""
        return self._size_bytes

    def read(self, offset: int, size: int) -> bytes:
        """As `ByteSource.read`."""
        if offset != self._at:
            self._file.seek(offset)
        found = self._file.read(size)
        self._at = offset + len(found)
        return found
