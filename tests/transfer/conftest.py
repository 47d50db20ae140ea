"""A model to lend, and what may carry it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conftest import MakeModel

from atoll.domain.bulk import ShardRange
from atoll.net.transport import Way
from atoll.store.layout import FoundModel, Store, sha256_of
from atoll.transfer.holdings import Holdings


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
