"""A file at an address, read in parts: the bytes that are wanted and hardly any others.

`WebFile` asks for one range at a time, goes on where a connection broke, and
notices when the server has another file than before. `ReadAhead` reads such a
file in order, with one long request for each run of bytes that lie together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from types import TracebackType
from typing import Self

import httpx
import msgspec

from atoll.domain.errors import PullFailed
from atoll.store.web import (
    Address,
    Limits,
    Patience,
    Transient,
    check_plain,
    check_status,
    follow,
    open_client,
    range_of,
    validator_of,
)


class ContentChanged(PullFailed):
    """The address has another file than it had before."""


class FileIdentity(msgspec.Struct, frozen=True):
    """Which file an address had: its size, and the server's mark of it ("" if it gives none)."""

    size_bytes: int
    validator: str


class WebFile:
    """A file at an address, as a source of bytes; one thread reads it.

    Args:
        address: Where it is.
        limits: How to wait where the connection breaks.
        identity: Which file it was before, if it was read before.
    """

    def __init__(
        self, address: Address, limits: Limits, identity: FileIdentity | None = None
    ) -> None:
        self.address = address
        self.fetched_bytes = 0
        """Bytes of content that came, wanted or not."""
        self._limits = limits
        self._identity = identity
        self._client = open_client(limits)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._client.close()

    @property
    def identity(self) -> FileIdentity:
        """Which file it is; known once something was read, and from then on the same."""
        assert self._identity is not None
        return self._identity

    @property
    def size_bytes(self) -> int:
        """Size of the whole file; known once something was read."""
        return self.identity.size_bytes

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on, fewer only where the file ends.

        Raises:
            PullFailed: They cannot be had.
        """
        return b"".join(self.stream(offset, offset + size))

    def stream(self, start: int, stop: int) -> Iterator[bytes]:
        """Bytes [start, stop), cut off where the file ends, as they come.

        Raises:
            ContentChanged: The address has another file by now.
            PullFailed: The server serves no ranges, refuses, or is silent.
        """
        at, patience = start, Patience(self.address, self._limits)
        while at < self._end(stop):
            before = at
            try:
                for chunk in self._attempt(at, self._end(stop)):
                    at += len(chunk)
                    yield chunk
                if at == before:
                    raise Transient("the server sent nothing of the range")
            except (httpx.TransportError, Transient) as error:
                patience.failed(error, progressed=at > before)

    def _end(self, stop: int) -> int:
        return stop if self._identity is None else min(stop, self._identity.size_bytes)

    def _attempt(self, start: int, stop: int) -> Iterator[bytes]:
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        if self._identity is not None and self._identity.validator:
            headers["If-Range"] = self._identity.validator
        response = follow(self._client, self.address, headers)
        with closing(response):
            self._check(response, start)
            for chunk in response.iter_raw():
                self.fetched_bytes += len(chunk)
                start += len(chunk)
                if start > stop:
                    raise PullFailed(
                        f"{self.address} sends more than it was asked for",
                        hint="pull the whole model with `atoll pull` instead",
                    )
                yield chunk

    def _check(self, response: httpx.Response, start: int) -> None:
        """Raise unless the response is the range from `start` of the same file as before."""
        if response.status_code == 416:
            if self._identity is not None:
                raise self._changed()
            raise PullFailed(f"{self.address} holds nothing", hint="check the address")
        check_status(self.address, response)
        check_plain(self.address, response)
        known, validator = self._identity, validator_of(response)
        if response.status_code == 200:
            if known is not None and validator != known.validator:
                raise self._changed()
            raise PullFailed(
                f"{self.address} serves no parts of files",
                hint="pull the whole model with `atoll pull` instead",
            )
        first, total = range_of(response)
        if total is None:
            raise PullFailed(
                f"{self.address} does not say how large the file is",
                hint="pull the whole model with `atoll pull` instead",
            )
        found = FileIdentity(total, validator)
        if known is None:
            self._identity = found
        elif total != known.size_bytes or (validator and validator != known.validator):
            raise self._changed()
        if first != start:
            raise Transient("the server sent another range than was asked for")

    def _changed(self) -> ContentChanged:
        return ContentChanged(
            f"the file at {self.address} changed while it was read", hint="try again"
        )


class ReadAhead:
    """Reads a file in order with one request for each run, instead of one for each read.

    Args:
        file: The file.
        runs: Half-open ranges in order; every read lies in one of them, at or
            behind the end of the read before it. What lies between two reads of
            a run is fetched and dropped.
    """

    def __init__(self, file: WebFile, runs: Sequence[tuple[int, int]]) -> None:
        self._file = file
        self._runs = runs
        self._chunks: Iterator[bytes] = iter(())
        self._have = b""
        self._at = self._stop = 0

    @property
    def size_bytes(self) -> int:
        """Size of the whole file."""
        return self._file.size_bytes

    def read(self, offset: int, size: int) -> bytes:
        """As `ByteSource.read`."""
        if not self._at <= offset < self._stop:
            start, stop = next((a, b) for a, b in self._runs if a <= offset < b)
            self._chunks, self._have = self._file.stream(max(start, offset), stop), b""
            self._at, self._stop = max(start, offset), stop
        self._fill(offset - self._at + size)
        found = self._have[offset - self._at :][:size]
        self._have = self._have[offset - self._at + len(found) :]
        self._at = offset + len(found)
        return found

    def _fill(self, size: int) -> None:
        parts, have = [self._have], len(self._have)
        while have < size and (chunk := next(self._chunks, b"")):
            parts.append(chunk)
            have += len(chunk)
        self._have = b"".join(parts)
