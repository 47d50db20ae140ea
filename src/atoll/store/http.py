"""Downloads over HTTPS that survive broken connections and distrust the server.

A download goes to a `.part` file with a `.json` beside it that says which
content it is a part of. A later pull goes on where an earlier one ended, if
the server still has the same content: by its ETag or date where it gives one
(If-Range), else only when the wanted SHA-256 is known and checked at the end.
"""

from __future__ import annotations

import hashlib
import ipaddress
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import httpx
import msgspec

from atoll.domain.errors import PullFailed
from atoll.model.files import atomic_file

Progress = Callable[[int, int | None], None]
"""Told (bytes done, bytes in all or None where nobody says)."""

REDIRECTS_MAX = 8
ATTEMPTS_MAX = 6
"""Attempts in a row that bring no new byte before a download is given up."""
BACKOFF_S = 0.5
BACKOFF_S_MAX = 15.0
DISK_SPARE_BYTES = 256 * 1024 * 1024
"""Room left on the disk whatever is pulled."""
ROOM_STEP_BYTES = 8 * 1024 * 1024
"""How often room is looked for where a server does not say how much it sends."""
_CHUNK_BYTES = 1 << 18
_TIMEOUT = httpx.Timeout(30.0, connect=15.0)


class Unreachable(PullFailed):
    """The address is of a kind that is not pulled from, or its server refuses or is silent."""


class _Transient(Exception):
    """Worth another attempt."""


class _Origin(msgspec.Struct, frozen=True):
    """Which content a `.part` file is a part of."""

    url: str
    validator: str = ""
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a download may cost, and how it waits between attempts."""

    bytes_max: int = 2**40
    backoff_s: float = BACKOFF_S
    wait: Callable[[float], object] = field(default_factory=lambda: threading.Event().wait)


def check_url(url: str) -> None:
    """Only https, and http to this machine itself.

    Raises:
        Unreachable: Anything else.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise Unreachable(f"{url!r} is not an address: {error}", hint="check it") from error
    if not host:
        raise Unreachable(f"{url!r} names no host", hint="write https://HOST/PATH")
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host)):
        return
    raise Unreachable(
        f"{url!r} is not an https address",
        hint="models are only pulled over https; plain http is for this machine itself",
    )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_room(folder: Path, needed_bytes: int) -> None:
    """Raise PullFailed unless the disk of `folder` takes `needed_bytes` and some spare."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes + DISK_SPARE_BYTES:
        raise PullFailed(
            f"{needed_bytes >> 20} MiB do not fit: {free >> 20} MiB are free at {folder}",
            hint="free some space, or set ATOLL_HOME to a larger disk",
        )


def download(
    url: str,
    part: Path,
    *,
    sha256: str | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> str:
    """Bring the content of `url` to the file `part`, going on where it ended before.

    Returns:
        Its SHA-256, 64 hex digits. The caller moves the file on and holds a lock meanwhile.

    Raises:
        Unreachable: Refused, gone, or too many failures in a row. What a later
            pull can go on from stays.
        PullFailed: Too large, no room, or the wrong content.
    """
    check_url(url)
    job = _Download(url, part, sha256, limits or Limits(), progress or (lambda _done, _all: None))
    with httpx.Client(timeout=_TIMEOUT, follow_redirects=False) as client:
        digest = job.run(client)
    if sha256 and digest != sha256:
        job.forget()
        raise PullFailed(
            f"{url} has the SHA-256 {digest}, not the wanted {sha256}",
            hint="nothing was kept; check the address and the hash, then pull again",
        )
    return digest


class _Download:
    """One download and what is known of it across attempts."""

    def __init__(
        self, url: str, part: Path, sha256: str | None, limits: Limits, progress: Progress
    ) -> None:
        self._url = url
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
        failures = 0
        while True:
            before = self._done
            try:
                self._attempt(client)
                return self._digest.hexdigest()
            except (httpx.TransportError, _Transient) as error:
                failures = 1 if self._done > before else failures + 1
                if failures >= ATTEMPTS_MAX:
                    raise Unreachable(
                        f"{self._url} broke off {failures} times in a row: "
                        f"{error or type(error).__name__}",
                        hint="check the network and pull again; it goes on where it ended",
                    ) from error
                self._limits.wait(min(self._limits.backoff_s * 2 ** (failures - 1), BACKOFF_S_MAX))

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
        if origin.url != self._url or not self._part.exists():
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
        headers = {"Accept-Encoding": "identity"}
        if self._done:
            headers["Range"] = f"bytes={self._done}-"
            if self._validator:
                headers["If-Range"] = self._validator
        response = _follow(client, self._url, headers)
        try:
            self._take(response)
        finally:
            response.close()

    def _take(self, response: httpx.Response) -> None:
        status = response.status_code
        if status == 416 and self._done:
            if _total_of(response) == self._done:
                return
            self._done = 0
            raise _Transient("the server no longer has the same content")
        _check_status(self._url, status)
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise PullFailed(
                f"{self._url} comes compressed though it was asked not to", hint="get it elsewhere"
            )
        if status == 206:
            start, total = _range_of(response)
            if start != self._done:
                self._done = 0
                raise _Transient("the server sent another range than was asked for")
            if self._done and not self._goes_on(_validator_of(response), total):
                self._done = 0
                raise _Transient("the server has other content than before")
        else:
            self._done = 0
            length = response.headers.get("content-length", "")
            total = int(length) if length.isdecimal() else None
        self._check_size(total)
        if self._done == 0:
            self._digest = hashlib.sha256()
            self._validator, self._total = _validator_of(response), total
            # Never may an old part lie beside the mark of new content.
            self._part.unlink(missing_ok=True)
            with atomic_file(self._origin_path, mode=0o600) as file:
                file.write(msgspec.json.encode(_Origin(self._url, self._validator, total)))
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
                    f"{self._url} sends more than the {total or self._limits.bytes_max} bytes "
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
            raise _Transient("the connection ended early")

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
                f"{self._url} is {total} bytes large; at most {self._limits.bytes_max} are allowed",
                hint="check the address",
            )
        check_room(self._part.parent, total - self._done)


def _follow(client: httpx.Client, url: str, headers: dict[str, str]) -> httpx.Response:
    """The last response after redirects, its body unread."""
    request = client.build_request("GET", url, headers=headers)
    for _ in range(REDIRECTS_MAX + 1):
        response = client.send(request, stream=True)
        if response.next_request is None:
            return response
        response.close()
        request = response.next_request
        check_url(str(request.url))
    raise PullFailed(f"{url} redirects more than {REDIRECTS_MAX} times", hint="check the address")


def _check_status(url: str, status: int) -> None:
    if status in (200, 206):
        return
    if status in (408, 425, 429) or status >= 500:
        raise _Transient(f"the server answers {status}")
    hints = {
        401: "it wants a login, which pull cannot give; download it and pull the path",
        403: "it wants a login, which pull cannot give; download it and pull the path",
        404: "check the address",
        410: "check the address",
    }
    raise Unreachable(f"{url} answers {status}", hint=hints.get(status, "try another address"))


def _validator_of(response: httpx.Response) -> str:
    """A strong ETag or the date of the last change; "" where the server gives neither."""
    etag: str = response.headers.get("etag", "")
    if etag and not etag.startswith("W/"):
        return etag
    return str(response.headers.get("last-modified", ""))


def _range_of(response: httpx.Response) -> tuple[int, int | None]:
    """(first byte, size of the whole) that a 206 says; the start is -1 if it says nothing."""
    text: str = response.headers.get("content-range", "")
    start = text.removeprefix("bytes ").partition("-")[0].strip()
    return (int(start) if start.isdecimal() else -1), _total_of(response)


def _total_of(response: httpx.Response) -> int | None:
    total: str = response.headers.get("content-range", "").rpartition("/")[2].strip()
    return int(total) if total.isdecimal() else None
