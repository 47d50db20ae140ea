"""Shards that several tests of the engine load."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.cut_models import cut

from atoll.engine.threads import SHARED_SPIN

# Read by OpenMP when the engine's library is opened: with its default, idle workers
# make tests ten times slower on a machine that has other work.
os.environ.setdefault("GOMP_SPINCOUNT", str(SHARED_SPIN))


@pytest.fixture(scope="session")
def demo_thirds(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The demo model in three shards of ten layers."""
    return cut(demo_model, [0, 10, 20, 30], tmp_path_factory.mktemp("thirds"))


@pytest.fixture(scope="session")
def small_shards(
    random_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    """A random llama of six layers in three shards of two."""
    return cut(random_model("llama"), [0, 2, 4, 6], tmp_path_factory.mktemp("small"))
