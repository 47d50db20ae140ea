"""Which API to talk to, with which key, and whom to believe there."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from atoll.domain.errors import BadRequest, RingDown
from atoll.gateway.run_file import RunFile, read_run_file


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An API's base address without `/v1`. Its text form never shows the key.

    `certificate` is a file with the one certificate to expect; None: whatever
    the system trusts.
    """

    url: str
    key: str = field(default="", repr=False)
    certificate: Path | None = None

    @classmethod
    def at(cls, url: str, key: str = "") -> Endpoint:
        """The API at `url`, with or without `/v1` at the end.

        Raises:
            BadRequest: It is no http(s) address, or the key cannot be sent.
        """
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname)
            _ = parts.port
        except ValueError:
            usable = False
        if not usable or parts.query or parts.fragment:
            raise BadRequest(
                f"{url!r} is not the address of an API",
                hint="it looks like http://127.0.0.1:8642 or https://example.org/v1",
            )
        if not key.isascii() or not key.isprintable():
            raise BadRequest("the API key holds characters that no key has", hint="copy it again")
        return cls(url.rstrip("/").removesuffix("/v1").rstrip("/"), key)

    @classmethod
    def of_home(cls, home: Path) -> Endpoint:
        """The gateway that runs on this machine with `home`.

        Raises:
            RingDown: None runs there.
        """
        found = read_run_file(home)
        if found is None:
            raise RingDown(
                f"no gateway runs here (looked in {home})",
                hint="start one with 'atoll serve', or name one with --url",
            )
        return cls.of_run_file(found)

    @classmethod
    def of_run_file(cls, found: RunFile) -> Endpoint:
        """The gateway that wrote the run file."""
        return cls(found.url, found.key, Path(found.certificate) if found.certificate else None)

    @property
    def is_local(self) -> bool:
        """Whether the address is this machine's own, so that no proxy is asked."""
        host = urlsplit(self.url).hostname or ""
        if host == "localhost":
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    def tls(self) -> ssl.SSLContext | bool:
        """What httpx takes as `verify`."""
        if self.certificate is None:
            return True
        # The gateway's own certificate, read from this machine's disk, is
        # better than any name in it: that one and no other is accepted.
        context = ssl.create_default_context(cafile=str(self.certificate))
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return context


def choose_endpoint(url: str | None, key: str, home: Path) -> Endpoint:
    """The API at `url`, or the gateway of this machine's `home` if none is named.

    A key that is given counts for either.

    Raises:
        BadRequest: The address or the key is malformed.
        RingDown: No address is given and no gateway runs here.
    """
    if url is not None:
        return Endpoint.at(url, key)
    found = Endpoint.of_home(home)
    return Endpoint(found.url, key or found.key, found.certificate)
