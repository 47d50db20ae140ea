"""Requests to servers that are not trusted: addresses, redirects, refusals, waits.

`http` downloads with these, `ranges` reads parts of a file, `hub` looks files up.
A token goes to the host that it is meant for and to no other.
"""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx

from atoll.domain.errors import PullFailed

REDIRECTS_MAX = 8
ATTEMPTS_MAX = 6
"""Attempts in a row that bring no new byte before a download is given up."""
BACKOFF_S = 0.5
BACKOFF_S_MAX = 15.0
RETRY_AFTER_S_MAX = 120.0
"""Longest wait that a server may ask for; who asks for more is given up at once."""
SILENCE_S = 30.0
SIZE_DIGITS_MAX = 19
"""Longer numbers in a header are no sizes; Python refuses to read very long ones."""
CONNECT_S = 15.0


class Unreachable(PullFailed):
    """The address is of a kind that is not pulled from, or its server refuses or is silent."""


class Transient(Exception):
    """Worth another attempt, in `after_s` seconds if the server says so."""

    def __init__(self, problem: str, after_s: float = 0.0) -> None:
        super().__init__(problem)
        self.after_s = after_s


@dataclass(frozen=True, slots=True)
class Limits:
    """What a download may cost, and how it waits between attempts.

    `silence_s` is how long a server may send nothing before that counts as a
    broken connection.
    """

    bytes_max: int = 2**40
    backoff_s: float = BACKOFF_S
    silence_s: float = SILENCE_S
    wait: Callable[[float], object] = field(default_factory=lambda: threading.Event().wait)


Refusal = Callable[[int, Mapping[str, str]], PullFailed | None]
"""What (status, headers) mean at one kind of server; None: what they mean everywhere."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a file is, and how its server is asked.

    Args:
        url: https, or http to this machine itself.
        token: Sent to the url's own host only, and shown nowhere.
        refusal: What refusals mean there.

    Raises:
        Unreachable: The url is of another kind.
    """

    url: str
    token: str = field(default="", repr=False)
    refusal: Refusal = field(default=lambda _status, _headers: None, repr=False)

    def __post_init__(self) -> None:
        check_url(self.url)

    def __str__(self) -> str:
        return self.url


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


def open_client(limits: Limits) -> httpx.Client:
    """A client that follows no redirect by itself."""
    timeout = httpx.Timeout(limits.silence_s, connect=min(CONNECT_S, limits.silence_s))
    return httpx.Client(timeout=timeout, follow_redirects=False)


def follow(
    client: httpx.Client,
    address: Address,
    headers: Mapping[str, str],
    *,
    method: str = "GET",
    leave_host: bool = True,
) -> httpx.Response:
    """The last response after redirects, its body unread.

    Args:
        client: As `open_client` makes it.
        address: Where to begin.
        headers: Sent with every request; the address's token only to its own host.
        method: GET or HEAD.
        leave_host: Whether to go on to another host; else its redirect is returned.

    Raises:
        Unreachable: A redirect leads off https.
        PullFailed: There are too many.
        httpx.TransportError: The connection failed.
    """
    request = client.build_request(
        method, address.url, headers={"Accept-Encoding": "identity", **headers}
    )
    home = _origin(request.url)
    for _ in range(REDIRECTS_MAX + 1):
        request.headers.pop("Authorization", None)
        if address.token and _origin(request.url) == home:
            request.headers["Authorization"] = f"Bearer {address.token}"
        response = client.send(request, stream=True)
        if response.next_request is None:
            return response
        if not leave_host and _origin(response.next_request.url) != home:
            return response
        response.close()
        request = response.next_request
        check_url(str(request.url))
    raise PullFailed(
        f"{address} redirects more than {REDIRECTS_MAX} times", hint="check the address"
    )


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def check_status(address: Address, response: httpx.Response) -> None:
    """Raise unless the response is a file, or a part of one.

    Raises:
        Transient: It may be one later.
        PullFailed: It will not be.
    """
    status = response.status_code
    if status in (200, 206):
        return
    if status in (408, 425, 429) or status >= 500:
        raise Transient(f"the server answers {status}", _retry_after_s(response))
    if _origin(response.request.url) != _origin(httpx.URL(address.url)):
        raise Unreachable(
            f"{response.request.url.host}, where {address} leads, answers {status}",
            hint="try again; it goes on where it ended",
        )
    meant = address.refusal(status, response.headers)
    if meant is not None:
        raise meant
    hints = {
        401: "it wants a login, which pull cannot give; download it and pull the path",
        403: "it wants a login, which pull cannot give; download it and pull the path",
        404: "check the address",
        410: "check the address",
    }
    raise Unreachable(f"{address} answers {status}", hint=hints.get(status, "try another address"))


def check_plain(address: Address, response: httpx.Response) -> None:
    """Raise PullFailed if the content comes compressed, so that its bytes are not the file's."""
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise PullFailed(
            f"{address} comes compressed though it was asked not to", hint="get it elsewhere"
        )


def _retry_after_s(response: httpx.Response) -> float:
    """Seconds that Retry-After asks for, a number or a date; 0 where it says nothing sensible."""
    text = response.headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


class Patience:
    """Waits between attempts, longer each time, until there were too many in a row."""

    def __init__(self, address: Address, limits: Limits) -> None:
        self._address = address
        self._limits = limits
        self._failures = 0

    def failed(self, error: Exception, *, progressed: bool) -> None:
        """Wait before the next attempt.

        Args:
            error: Why the last one failed.
            progressed: Whether it brought something new nevertheless.

        Raises:
            Unreachable: There shall be no other.
        """
        self._failures = 1 if progressed else self._failures + 1
        asked_s = error.after_s if isinstance(error, Transient) else 0.0
        if asked_s > RETRY_AFTER_S_MAX:
            raise Unreachable(
                f"{self._address} asks to be left alone for {asked_s:.0f} s: {error}",
                hint="try again after that; it goes on where it ended",
            ) from error
        if self._failures >= ATTEMPTS_MAX:
            raise Unreachable(
                f"{self._address} broke off {self._failures} times in a row: "
                f"{error or type(error).__name__}",
                hint="check the network and pull again; it goes on where it ended",
            ) from error
        backoff_s = self._limits.backoff_s * 2 ** (self._failures - 1)
        self._limits.wait(max(min(backoff_s, BACKOFF_S_MAX), asked_s))


def validator_of(response: httpx.Response) -> str:
    """A strong ETag or the date of the last change; "" where the server gives neither."""
    etag: str = response.headers.get("etag", "")
    if etag and not etag.startswith("W/"):
        return etag
    return str(response.headers.get("last-modified", ""))


def range_of(response: httpx.Response) -> tuple[int, int | None]:
    """(first byte, size of the whole) that a 206 says; the start is -1 if it says nothing."""
    text: str = response.headers.get("content-range", "")
    start = text.removeprefix("bytes ").partition("-")[0].strip()
    first = size_in(start)
    return (-1 if first is None else first), total_of(response)


def total_of(response: httpx.Response) -> int | None:
    """Size of the whole file by Content-Range, if it says so."""
    total: str = response.headers.get("content-range", "").rpartition("/")[2].strip()
    return size_in(total)


def size_in(text: str) -> int | None:
    """The number of bytes that a header says; None for anything else."""
    return int(text) if text.isdecimal() and len(text) <= SIZE_DIGITS_MAX else None
