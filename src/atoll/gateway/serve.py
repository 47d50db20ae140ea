"""The gateway put together: model, ends, fleet, ring, text and the web server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from atoll.domain.errors import BadRequest
from atoll.engine.ends_messages import EndsOptions
from atoll.engine.place import check_engine
from atoll.engine.text_client import TextProcess
from atoll.gateway.api import create_app
from atoll.gateway.conductor import Conductor
from atoll.gateway.fleet import Fleet
from atoll.gateway.keys import KeyStore
from atoll.gateway.options import RingOptions, ServeOptions
from atoll.gateway.server import check_bind, open_server, open_socket
from atoll.gateway.status import RingStatus, ring_status
from atoll.model.architectures import boundaries
from atoll.model.gguf import open_gguf
from atoll.model.manifest import Manifest, describe, kv_bytes, make_manifest
from atoll.net.identity import Identity, next_incarnation
from atoll.net.listener import listen
from atoll.plan.equal import equal_cut
from atoll.store.layout import FoundModel, Store
from atoll.store.shards import ShardFile, ensure_shard

log = logging.getLogger(__name__)

KEYS_FILE = "keys.json"
IDENTITY_FILE = "gateway.pem"
INCARNATION_FILE = "incarnation"


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway.

    `url` is the API's base without `/v1`; `join_files` are for the nodes.
    """

    url: str
    join_files: tuple[Path, ...]
    conductor: Conductor
    status: Callable[[], RingStatus]


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A model made ready: its numbers, and the ends' files."""

    manifest: Manifest
    head: ShardFile
    tail: ShardFile


@asynccontextmanager
async def open_gateway(
    model: FoundModel,
    store: Store,
    home: Path,
    options: ServeOptions,
    *,
    tell: Callable[[str], None],
) -> AsyncIterator[Gateway]:
    """Serve `model` inside the block; nodes may join from its beginning.

    Args:
        model: What to serve.
        store: Where models and shards lie.
        home: Where the gateway's key, its incarnation and the API keys lie.
        options: The operator's choices.
        tell: Takes one line at a time for the operator to read.

    Raises:
        AtollError: The model cannot be cut, or an address or process cannot be had.
    """
    ring = options.ring
    keys = KeyStore(home / KEYS_FILE) if options.auth else None
    check_bind(options.host, options.tls, keys)
    await _check_ring(ring, model)
    prepared = await asyncio.to_thread(_prepare, model, store, ring)
    identity = Identity.load_or_create(home / IDENTITY_FILE)
    fleet = Fleet(ring.nodes, options.join_dir, tell=tell)
    conductor = Conductor(
        *(model.name, prepared.manifest, fleet),
        identity=identity,
        options=ring,
        ends=_ends_options(model, prepared, ring),
        incarnation=next_incarnation(home / INCARNATION_FILE),
        tell=tell,
    )

    def status() -> RingStatus:
        return ring_status(conductor, fleet, prepared.manifest, ring.streams)

    text = await TextProcess.start(model.path)
    try:
        async with (
            listen(
                *(options.link_host, options.link_port),
                identity=identity,
                authorise=conductor.authorise,
                on_control=fleet.on_control,
                on_data=conductor.on_data,
            ) as listener,
            open_server(
                create_app(conductor, text, keys=keys, status=status),
                open_socket(options.host, options.port),
                tls=options.tls,
            ) as url,
            asyncio.TaskGroup() as tasks,
        ):
            files = fleet.open(options.link_host, listener.port, identity.node_id)
            running = tasks.create_task(conductor.run(), name="conductor")
            try:
                yield Gateway(url, tuple(files), conductor, status)
            finally:
                running.cancel()
                fleet.close()
    except ExceptionGroup as group:
        # What the caller's block or the conductor raised leaves as it came.
        if len(group.exceptions) > 1:
            raise
        raise group.exceptions[0] from None
    finally:
        await text.close()


async def _check_ring(ring: RingOptions, model: FoundModel) -> None:
    check_context(ring, describe(open_gguf(model.path), model.model))
    await check_engine(ring.gpu)


def check_context(ring: RingOptions, manifest: Manifest) -> None:
    """Refuse a context that the model was not made for.

    Raises:
        BadRequest: It is longer than the model's own.
    """
    if not 1 <= ring.context <= manifest.context_train:
        raise BadRequest(
            f"a context of {ring.context} tokens was asked for, the model's is "
            f"{manifest.context_train}",
            hint="choose a smaller --context",
        )


def _prepare(model: FoundModel, store: Store, ring: RingOptions) -> _Prepared:
    """Cut the ends and hash every stage's shard; reads the model once."""
    n_layers = describe(open_gguf(model.path), model.model).n_layers
    ranges = equal_cut(n_layers, ring.ends, ring.nodes, boundaries(open_gguf(model.path)))
    manifest = make_manifest(model.path, model.model, ranges)
    head = ensure_shard(store, model, 0, ring.ends)
    tail = ensure_shard(store, model, n_layers - ring.ends, n_layers)
    return _Prepared(manifest, head, tail)


def _ends_options(model: FoundModel, prepared: _Prepared, ring: RingOptions) -> EndsOptions:
    manifest, head, tail = prepared.manifest, prepared.head, prepared.tail
    n_layers, cells = manifest.n_layers, ring.streams * ring.context
    kv = kv_bytes(manifest, 0, ring.ends, cells)
    kv += kv_bytes(manifest, n_layers - ring.ends, n_layers, cells)
    return EndsOptions(
        model=str(model.path),
        head=str(head.path),
        tail=str(tail.path),
        n_slots=ring.streams,
        context=ring.context,
        rows_max=ring.rows_max,
        threads=ring.threads,
        threads_large=ring.threads_large,
        need_bytes=head.size_bytes + tail.size_bytes + kv,
    )
