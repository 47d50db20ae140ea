"""Where the API listens, and the web server inside the gateway's event loop."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from atoll.api.keys import KeyStore
from atoll.api.limits import Limits
from atoll.api.protocol import bounded_protocol
from atoll.domain.errors import AtollError

log = logging.getLogger(__name__)

HOST_DEFAULT = "127.0.0.1"
_START_TIMEOUT_S = 10.0
_CANCEL_WAIT_S = 2.0


class BadBind(AtollError):
    """An address that the API may not or cannot listen on."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Tls:
    """A certificate chain and its private key, PEM files."""

    cert: Path
    key: Path


def check_bind(host: str, tls: Tls | None, keys: KeyStore | None) -> None:
    """Refuse to open the API to others without encryption and keys.

    `keys` None means that no key is asked for (`--no-auth`).

    Raises:
        BadBind: Says what is missing. Also if `host` is no address of any kind.
    """
    if _is_loopback(host):
        return
    if keys is None:
        raise BadBind(
            f"{host} can be reached by other machines, so requests need an API key",
            hint=f"leave --no-auth out, or listen on {HOST_DEFAULT}",
        )
    if tls is None:
        raise BadBind(
            f"{host} can be reached by other machines, so the API needs TLS",
            hint=f"give --tls-cert and --tls-key, or listen on {HOST_DEFAULT}",
        )
    if not keys.list():
        raise BadBind(
            f"{host} can be reached by other machines, and there is no API key yet",
            hint="make one with 'atoll keys create NAME'",
        )


def _addresses(host: str) -> list[str]:
    """Every address of `host`, IPv4 first; '' is every address of the machine."""
    try:
        found = socket.getaddrinfo(host or "0.0.0.0", None, type=socket.SOCK_STREAM)  # noqa: S104
    except (OSError, UnicodeError) as error:
        raise BadBind(
            f"{host!r} is not an address of this machine", hint=f"listen on {HOST_DEFAULT}"
        ) from error
    found.sort(key=lambda info: info[0] != socket.AF_INET)
    return [str(info[4][0]) for info in found]


def _is_loopback(host: str) -> bool:
    return all(
        ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in _addresses(host)
    )


def open_socket(host: str, port: int) -> socket.socket:
    """A listening socket on the first address of `host`; port 0 takes a free one.

    Raises:
        BadBind: The port is taken, or not allowed.
    """
    address = _addresses(host)[0]
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.setblocking(False)
    except (OSError, OverflowError) as error:
        listener.close()
        raise BadBind(
            f"cannot listen on {address} port {port}: {error}",
            hint="stop what uses the port, or choose another with --port",
        ) from error
    return listener


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the gateway decides when to stop.

    Its main loop looks ten times a second whether it should; this one is told.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        self.should_exit = True
        self._stopping.set()

    async def main_loop(self) -> None:
        # A tick renews the date that every response carries.
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._stopping.wait()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def open_server(
    app: ASGIApp,
    listener: socket.socket,
    *,
    tls: Tls | None = None,
    limits: Limits | None = None,
    grace_s: int = 10,
) -> AsyncIterator[str]:
    """Serve `app` on `listener` inside the block; yields the base URL, without `/v1`.

    On leaving, no connection is accepted any more, requests in progress have
    `grace_s` to end, and what is left then is cancelled.

    Raises:
        BadBind: The certificate or its key cannot be used.
    """
    limits = limits or Limits()
    server = _Server(_config(app, tls, limits, grace_s))
    host, port = listener.getsockname()[:2]
    try:
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server.serve(sockets=[listener]), name="http-server")
            try:
                async with asyncio.timeout(_START_TIMEOUT_S):
                    await server.listening.wait()
                shown = f"[{host}]" if ":" in host else host
                yield f"{'https' if tls else 'http'}://{shown}:{port}"
            finally:
                server.stop()
                await asyncio.wait([serving])
                await _cut_off(server)
    except ExceptionGroup as group:
        # What the caller's block raised is the caller's, not a group's.
        if len(group.exceptions) > 1:
            raise
        raise group.exceptions[0] from None


def _config(app: ASGIApp, tls: Tls | None, limits: Limits, grace_s: int) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        http=bounded_protocol(limits),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        # No proxy is trusted: the peer's address is the socket's.
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=limits.idle_timeout_s,
        timeout_graceful_shutdown=grace_s,
        ssl_certfile=tls.cert if tls else None,
        ssl_keyfile=tls.key if tls else None,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise BadBind(
            f"the TLS certificate or its key cannot be used: {error}",
            hint="both are PEM files, and the key belongs to the certificate",
        ) from error
    return config


async def _cut_off(server: uvicorn.Server) -> None:
    """Drop what outlived the grace: uvicorn cancels its tasks but leaves connections."""
    for connection in list(server.server_state.connections):
        connection.transport.abort()
    left = list(server.server_state.tasks)
    if left:
        await asyncio.wait(left, timeout=_CANCEL_WAIT_S)
