"""Other models than the demo's, in rings of real processes: same tokens as the whole model."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conftest import MakeModel
from tests.support.rings import open_ring
from tests.support.split_models import split_model

from atoll.engine.whole import WholeModel
from atoll.gateway.options import RingOptions
from atoll.store.layout import Store
from atoll.store.pull import pull

pytestmark = [pytest.mark.engine, pytest.mark.network]

PROMPTS = [tuple(range(3, 90)), (1, 260, 40, 77, 9)]
"""The first is longer than a window."""
OPTIONS = RingOptions(nodes=2, streams=2, context=256, rows_max=64, chunk_rows=64, spin=1000)


async def assert_same_tokens(path: Path, store: Store, folder: Path) -> None:
    whole = WholeModel(path, n_slots=2, context=256, threads=1, rows_max=64)
    expected = whole.greedy(PROMPTS, 12, exact=True, stop_at_end=False).tokens
    whole.close()
    async with open_ring(store.resolve(str(path)), store, folder, OPTIONS) as ring:
        for prompt, tokens in zip(PROMPTS, expected, strict=True):
            assert await ring.tokens(prompt, 12) == tokens


async def test_a_model_whose_graph_scales_its_input(
    random_model: MakeModel, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    await assert_same_tokens(random_model("gemma2"), store, tmp_path)


async def test_a_model_of_experts(random_model: MakeModel, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    await assert_same_tokens(random_model("qwen3moe"), store, tmp_path)


@pytest.mark.parametrize("stored", [False, True])
async def test_a_model_in_several_files(
    random_model: MakeModel, tmp_path: Path, stored: bool
) -> None:
    """As `atoll serve` is given it: by the path of its first part, or by its name here."""
    store = Store(tmp_path / "store")
    first = split_model(random_model("qwen2", tied=False), tmp_path, [0, 30, 60])[0]
    path = pull(str(first), store=store).path if stored else first
    await assert_same_tokens(path, store, tmp_path)
