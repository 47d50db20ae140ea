"""A gateway's whole life: it holds its home, serves, and tells where it is."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from atoll.api.keys import KEYS_FILE, LOCAL_KEY_ID, KeyStore, NoSuchKey
from atoll.engine.threads import shorten_slices
from atoll.gateway.options import ServeOptions
from atoll.gateway.run_file import RunFile, kept_run_file
from atoll.gateway.serve import Gateway, open_gateway
from atoll.net.home import held_home
from atoll.net.private_file import write_private
from atoll.node.keeping import clear
from atoll.store.layout import FoundModel, Store

LOCAL_KEY_NAME = "atoll-on-this-machine"
_UNSPECIFIED = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - compared, not bound


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Whom to tell what.

    `opened` is called once nodes can join, `ready` once the ring is up for the
    first time; `tell` takes lines for the operator.
    """

    tell: Callable[[str], None]
    opened: Callable[[Gateway], None]
    ready: Callable[[Gateway], None]


async def run_gateway(
    model: FoundModel,
    store: Store,
    home: Path,
    options: ServeOptions,
    *,
    callbacks: Callbacks,
    ready_file: Path | None = None,
) -> None:
    """Serve until cancelled.

    Args:
        model: What to serve.
        store: Where models and shards lie.
        home: Where keys lie; held against a second gateway.
        options: The operator's choices.
        callbacks: Whom to tell what.
        ready_file: Written (with the address) once the ring is up, removed at
            the end.

    Raises:
        AtollError: The gateway cannot start, or broke.
    """
    if options.ring.spin is not None:
        shorten_slices()
    with held_home(home, "gateway"):
        clear(options.ring.keeping)
        keys = KeyStore(home / KEYS_FILE)
        # Of a gateway that was killed: it must not count as a key of the operator's.
        _forget_local_key(keys)
        async with open_gateway(model, store, home, options, tell=callbacks.tell) as gateway:
            with _local_key(keys, options) as key, _marked(home, model, options, gateway, key):
                callbacks.opened(gateway)
                await gateway.conductor.became_ready.wait()
                with _ready_mark(ready_file, gateway.url):
                    callbacks.ready(gateway)
                    await asyncio.Event().wait()


def local_url(url: str) -> str:
    """The address at which this machine itself reaches a server at `url`."""
    parts = urlsplit(url)
    host = _UNSPECIFIED.get(parts.hostname or "")
    return f"{parts.scheme}://{host}:{parts.port}" if host else url


def _marked(
    home: Path, model: FoundModel, options: ServeOptions, gateway: Gateway, key: str
) -> AbstractContextManager[Path]:
    certificate = str(options.tls.cert.resolve()) if options.tls else ""
    mark = RunFile(
        url=local_url(gateway.url),
        pid=os.getpid(),
        model=model.name,
        key=key,
        certificate=certificate,
        gateway=gateway.key,
        addresses=tuple(str(address) for address in gateway.addresses),
        udp_port=gateway.udp_port,
        relay=options.relay,
    )
    return kept_run_file(home, mark)


@contextmanager
def _local_key(keys: KeyStore, options: ServeOptions) -> Iterator[str]:
    """A key that lives as long as the gateway; empty where none is asked for."""
    if not options.auth:
        yield ""
        return
    made = keys.create(LOCAL_KEY_NAME, key_id=LOCAL_KEY_ID)
    try:
        yield made.secret
    finally:
        _forget_local_key(keys)


def _forget_local_key(keys: KeyStore) -> None:
    if any(key.name == LOCAL_KEY_NAME for key in keys.list()):
        try:
            keys.revoke(LOCAL_KEY_NAME)
        except NoSuchKey:
            # Somebody else revoked it in between: as good.
            return


@contextmanager
def _ready_mark(path: Path | None, url: str) -> Iterator[None]:
    if path is None:
        yield
        return
    write_private(path, f"{url}\n".encode(), replace=True)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
