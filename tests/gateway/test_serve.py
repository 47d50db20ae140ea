"""The gateway put together: what it refuses to start with, and what it leaves."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from tests.support.children import new_children
from tests.support.hand_node import open_small_gateway
from tests.support.small_gateway import OpenGateway

from atoll.api.server import BadBind
from atoll.domain.errors import AtollError, BadRequest, CannotCut
from atoll.gateway.options import RingOptions, ServeOptions
from atoll.gateway.serve import open_gateway
from atoll.net.ticket import Ticket
from atoll.store.cache import entries, prune
from atoll.store.layout import FoundModel, Store

pytestmark = [
    pytest.mark.engine,
    pytest.mark.network,
    pytest.mark.usefixtures("own_children"),
]


@pytest.mark.parametrize(
    ("options", "error", "problem"),
    [
        ({"context": 513}, BadRequest, "a context of 513 tokens"),
        ({"context": 0}, BadRequest, "a context of 0 tokens"),
        ({"nodes": 5}, CannotCut, "5 nodes cannot share 4 layers"),
        ({"ends": 3}, CannotCut, "cannot share 0 layers"),
    ],
)
async def test_what_cannot_be_is_refused_before_anything_starts(
    open_ring_gateway: OpenGateway,
    tmp_path: Path,
    options: dict[str, int],
    error: type[AtollError],
    problem: str,
) -> None:
    with pytest.raises(error, match=problem):
        async with open_ring_gateway(**options):
            pass
    assert not new_children()
    assert not (tmp_path / "join").exists()


async def test_a_public_address_needs_tls(
    small_model: FoundModel, small_store: Store, tmp_path: Path
) -> None:
    options = ServeOptions(RingOptions(nodes=1), tmp_path / "join", host="0.0.0.0", port=0)
    with pytest.raises(BadBind):
        async with open_gateway(small_model, small_store, tmp_path, options, tell=print):
            pass


async def test_a_taken_port_leaves_no_process(
    small_model: FoundModel, small_store: Store, tmp_path: Path, open_ring_gateway: OpenGateway
) -> None:
    async with open_ring_gateway() as gateway:
        before = new_children()
        port = httpx.URL(gateway.url).port
        assert port is not None
        ring = RingOptions(nodes=1, context=128)
        options = ServeOptions(ring, tmp_path / "other", port=port)
        with pytest.raises(BadBind, match="cannot listen"):
            async with open_gateway(small_model, small_store, tmp_path / "o", options, tell=print):
                pass
        assert new_children() == before
        assert not (tmp_path / "other").exists()


async def test_each_start_has_an_incarnation_and_the_same_key(
    small_model: FoundModel, small_store: Store, tmp_path: Path
) -> None:
    identities = set()
    for _ in range(2):
        said: list[str] = []
        async with open_small_gateway(small_model, small_store, tmp_path, said) as gateway:
            identities.add(Ticket.load(gateway.join_files[0]).gateway)
            assert new_children()
        assert not new_children()
        assert list((tmp_path / "join").iterdir()) == []
    assert len(identities) == 1
    assert (tmp_path / "gateway" / "incarnation").read_text().strip() == "2"


async def test_the_ends_files_are_in_use_while_it_runs(
    small_model: FoundModel, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    async with open_small_gateway(small_model, store, tmp_path, []):
        assert prune(store, 0).removed == ()
        assert len(entries(store)) == 2
    assert len(prune(store, 0).removed) == 2


async def test_an_error_in_the_block_comes_out_as_it_is(open_ring_gateway: OpenGateway) -> None:
    with pytest.raises(ZeroDivisionError):
        async with open_ring_gateway():
            raise ZeroDivisionError
    assert not new_children()
