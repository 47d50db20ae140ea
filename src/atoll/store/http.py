"""Downloads over HTTPS that survive broken connections and distrust the server.

A download goes to a `.part` file with a `.json` beside it that says which
content it is a part of. A later pull goes on where an earlier one ended, if
the server still has the same content: by its ETag or date where it gives one
(If-Range), else only when the wanted SHA-256 is known and checked at the end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import httpx
import msgspec

from atoll.domain.errors import PullFailed
from atoll.model.files import atomic_file
from atoll.store.disk import check_room
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
    size_in,
    total_of,
    validator_of,
)

Progress = Callable[[int, int | None], None]
"""Told (bytes done, bytes in all or None where nobody says)."""

ROOM_STEP_BYTES = 8 * 1024 * 1024
"""How often room is looked for where a server does not say how much it sends."""
_CHUNK_BYTES = 1 << 18


class _Origin(msgspec.Struct, frozen=True):
    """Which content a `.part` file is a part of."""

    url: str
    validator: str = ""
    total: int | None = None


def download(
    where: str | Address,
    part: Path,
    *,
    sha256: str | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> str:
    """Bring the content of an address to the file `part`, going on where it ended before.

    Returns:
        Its SHA-256, 64 hex digits. The caller moves the file on and holds a lock meanwhile.

    Raises:
        Unreachable: Refused, gone, or too many failures in a row. What a later
            pull can go on from stays.
        PullFailed: Too large, no room, or the wrong content.
    """
    address = where if isinstance(where, Address) else Address(where)
    limits = limits or Limits()
    job = _Download(address, part, sha256, limits, progress or (lambda _done, _all: None))
    with open_client(limits) as client:
        digest = job.run(client)
    if sha256 and digest != sha256:
        job.forget()
        raise PullFailed(
            f"{address} has the SHA-256 {digest}, not the wanted {sha256}",
            hint="nothing was kept; check the address and the hash, then pull again",
        )
    return digest


class _Download:
    """One download and what is known of it across attempts."""

    def __init__(
        self, address: Address, part: Path, sha256: str | None, limits: Limits, progress: Progress
    ) -> None:
        self._address = address
        self._part = part
        self._origin_path = part.with_suffix(".json")
        self._sha256 = sha256
        self._limits = limits
        self._progress = progress
        self._validator = ""
        self._total: int | None = None
        self._digest = hashlib.sha256()
        self._done = 0

    def run(self, client: httpx.Client) -> str:
        self._recall()
        patience = Patience(self._address, self._limits)
        while True:
            before = self._done
            try:
                self._attempt(client)
                return self._digest.hexdigest()
            except (httpx.TransportError, Transient) as error:
                patience.failed(error, progressed=self._done > before)

    def forget(self) -> None:
        """Drop what was downloaded."""
        self._part.unlink(missing_ok=True)
        self._origin_path.unlink(missing_ok=True)

    def _recall(self) -> None:
        """Take up what an earlier pull left, if it may be continued."""
        try:
            origin = msgspec.json.decode(self._origin_path.read_bytes(), type=_Origin)
        except (FileNotFoundError, msgspec.MsgspecError):
            return
        if origin.url != self._address.url or not self._part.exists():
            return
        self._validator, self._total = origin.validator, origin.total
        if not self._validator and not self._sha256:
            return
        with self._part.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                self._digest.update(chunk)
                self._done += len(chunk)

    def _attempt(self, client: httpx.Client) -> None:
        if self._done and not (self._validator or self._sha256):
            self._done = 0
        headers: dict[str, str] = {}
        if self._done:
            headers["Range"] = f"bytes={self._done}-"
            if self._validator:
                headers["If-Range"] = self._validator
        response = follow(client, self._address, headers)
        try:
            self._take(response)
        finally:
            response.close()

    def _take(self, response: httpx.Response) -> None:
        status = response.status_code
        if status == 416 and self._done:
            if total_of(response) == self._done:
                return
            self._done = 0
            raise Transient("the server no longer has the same content")
        check_status(self._address, response)
        check_plain(self._address, response)
        if status == 206:
            start, total = range_of(response)
            if start != self._done:
                self._done = 0
                raise Transient("the server sent another range than was asked for")
            if self._done and not self._goes_on(validator_of(response), total):
                self._done = 0
                raise Transient("the server has other content than before")
        else:
            self._done = 0
            length = response.headers.get("content-length", "")
            total = size_in(length)
        self._check_size(total)
        if self._done == 0:
            self._digest = hashlib.sha256()
            self._validator, self._total = validator_of(response), total
            # Never may an old part lie beside the mark of new content.
            self._part.unlink(missing_ok=True)
            with atomic_file(self._origin_path, mode=0o600) as file:
                file.write(msgspec.json.encode(_Origin(self._address.url, self._validator, total)))
        with self._part.open("r+b" if self._done else "wb") as part:
            part.truncate(self._done)
            part.seek(self._done)
            self._copy(response, part, total)

    def _goes_on(self, validator: str, total: int | None) -> bool:
        """Whether a part that says this of its whole belongs to what is here.

        Not every server heeds If-Range.
        """
        same = validator in ("", self._validator) or not self._validator
        return same and (None in (total, self._total) or total == self._total)

    def _copy(self, response: httpx.Response, part: BinaryIO, total: int | None) -> None:
        self._progress(self._done, total)
        checked = self._done
        for chunk in response.iter_raw():
            if total is None and self._done >= checked:
                self._find_room()
                checked = self._done + ROOM_STEP_BYTES
            if self._done + len(chunk) > (self._limits.bytes_max if total is None else total):
                self.forget()
                raise PullFailed(
                    f"{self._address} sends more than the {total or self._limits.bytes_max} bytes "
                    "it may",
                    hint="check the address",
                )
            try:
                part.write(chunk)
            except OSError as error:
                raise PullFailed(
                    f"cannot write {self._part}: {error.strerror}",
                    hint="free some space and pull again; it goes on where it ended",
                ) from error
            self._digest.update(chunk)
            self._done += len(chunk)
            self._progress(self._done, total)
        if total is not None and self._done < total:
            raise Transient("the connection ended early")

    def _find_room(self) -> None:
        """Make sure of room for the next step of an answer whose end is not known."""
        try:
            check_room(self._part.parent, 2 * ROOM_STEP_BYTES)
        except PullFailed:
            self.forget()
            raise

    def _check_size(self, total: int | None) -> None:
        if total is None:
            return
        if total > self._limits.bytes_max:
            self.forget()
            raise PullFailed(
                f"{self._address} is {total} bytes large; "
                f"at most {self._limits.bytes_max} are allowed",
                hint="check the address",
            )
        check_room(self._part.parent, total - self._done)
