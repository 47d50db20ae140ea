"""A lender on loopback, links to it, and a model to lend."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.conftest import MakeModel

from atoll.domain.address import Address, HostPort
from atoll.domain.bulk import ShardRange
from atoll.net.identity import Identity
from atoll.net.link import BulkLink
from atoll.net.listener import Takers
from atoll.net.transport import Transport, Way, open_transport
from atoll.store.layout import FoundModel, Store, sha256_of
from atoll.transfer.borrower import Holder
from atoll.transfer.holdings import Holdings
from atoll.transfer.lender import Lender, OpenShard, open_lender

LOOPBACK = "127.0.0.1"


@dataclass
class Post:
    """A lender behind a port, and a stranger's transport to dial it with."""

    lender: Lender
    identity: Identity
    address: Address
    borrower: Transport

    async def dial(self) -> BulkLink:
        return await self.borrower.dial_bulk(self.address, expected=self.identity.node_id)

    def holder(self, name: str = "the gateway") -> Holder:
        return Holder(name, self.dial)


@asynccontextmanager
async def serve_bulk(
    on_bulk: Callable[[BulkLink], None], way: Way = "tls"
) -> AsyncIterator[tuple[Identity, Address, Transport]]:
    """Take bulk links from anybody."""
    identity = Identity.generate()
    async with (
        open_transport(identity, way=way, host=LOOPBACK) as transport,
        open_transport(Identity.generate(), way=way, host=LOOPBACK) as borrower,
        transport.listen(LOOPBACK, 0, Takers(lambda *_: None, on_bulk=on_bulk)) as listener,
    ):
        port = transport.endpoint.port if transport.endpoint else listener.port
        place = HostPort(LOOPBACK, port)
        address = Address(quic=(place,)) if way == "quic" else Address(tls=place)
        yield identity, address, borrower


@asynccontextmanager
async def open_post(open_shard: OpenShard, way: Way = "tls") -> AsyncIterator[Post]:
    async with (
        open_lender(open_shard) as lender,
        serve_bulk(lender.on_bulk, way) as (identity, address, borrower),
    ):
        yield Post(lender, identity, address, borrower)


OpenPost = Callable[..., AbstractAsyncContextManager[Post]]


@pytest.fixture(params=["tls", "quic"])
def way(request: pytest.FixtureRequest) -> Way:
    found: Way = request.param
    if found == "quic":
        pytest.importorskip("iroh", reason="no wheel for this system")
    return found


@pytest.fixture
def model(random_model: MakeModel) -> FoundModel:
    """A model of some MiB, so that its shards have several pieces."""
    path: Path = random_model(n_embd=128, n_ff=512)
    return FoundModel(model=sha256_of(path), path=path, name="m")  # type: ignore[arg-type]


@pytest.fixture
def holdings(model: FoundModel, tmp_path: Path) -> Holdings:
    """All of the model, in the lender's own store."""
    store = Store(tmp_path / "lender")
    return Holdings(store, lambda wanted: model if wanted == model.model else None)


@pytest.fixture
def shard(model: FoundModel) -> ShardRange:
    return ShardRange(model.model, 1, 5)
