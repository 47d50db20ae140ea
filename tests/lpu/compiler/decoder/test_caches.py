"""Keys and values of positions, put where a tile of weights has them."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.lpu_rig import LANES, Rig, vectors

from atoll.lpu.compiler.decoder.caches import (
    ValueTables,
    add_key,
    add_value,
    indices,
    key_index,
    make_cache,
    values_index,
)
from atoll.lpu.compiler.memory import BLOCK_COLUMNS, Tile


def columns(rig: Rig, tile: Tile) -> np.ndarray:
    """A tile of halves, shape (columns, lanes)."""
    assert rig.simulator is not None
    [(side, slices)] = tile.slices
    words = rig.simulator.peek(0, side, slices, tile.address, tile.words)
    pairs = words.reshape(-1, 2, LANES).transpose(0, 2, 1)
    return np.ascontiguousarray(pairs).view("<f2")[..., 0].astype(np.float64)


def test_indices_of_a_position() -> None:
    found = indices(700, positions=1000, lanes=LANES, dims=[64, 128])
    assert (found["position"], found["lane"]) == (700, 60)
    # Of four blocks, two on each side, 700 is in the third: the second of the west. Column 60
    # is in word 3 of pair 12.
    assert found[key_index("west", 12)] == 20 + 3
    assert found[key_index("west", 11)] == found[key_index("east", 12)] == 40
    assert [found[f"block {b}"] for b in range(4)] == [320, 320, 61, 0]
    assert (found[values_index(64)], found[values_index(128)]) == (8, 16)


@pytest.mark.parametrize("position", [0, 17, 319, 320, 700])
@pytest.mark.parametrize("dims", [16, 128, 192, 320])
def test_a_position_is_one_column_of_keys_and_one_lane_of_values(position: int, dims: int) -> None:
    rig = Rig()
    rng = np.random.default_rng(position)
    cache = make_cache(rig.memory, 0, positions=701, dims=dims)
    rig.zeros([piece for piece in rig.memory.pieces if piece.what != "values"])
    block, lane = divmod(position, LANES)
    kept = rng.standard_normal((dims, LANES)).astype(np.float16)
    kept[:, lane] = 0
    for b, tile in enumerate(cache.values):
        rig.fill(tile, kept.T.astype(np.float64) * (b == block), 0)
    key, value = (rng.standard_normal(dims).astype(np.float16) for _ in range(2))
    one = np.eye(LANES)
    order = [d for pair in range(BLOCK_COLUMNS) for d in range(pair, dims, BLOCK_COLUMNS)]
    lanes = rig.put(one, "f16", side="east", first=42)
    lanes.index = "lane"
    tables = ValueTables(rig.ones(), rig.put(one[order], "f16", side="east", first=42), lanes)
    given = rig.put(vectors(value), "f16", first=8)
    add_key(rig.builder, cache, rig.put(vectors(key), "f16", first=10))
    add_value(rig.builder, cache, given, tables)
    rig.run(indices(position, positions=701, lanes=LANES, dims=[dims]))
    for b, tile in enumerate(cache.keys):
        wanted = np.zeros((LANES, LANES))
        if b == block:
            wanted[lane, :dims] = key
        assert np.array_equal(columns(rig, tile), wanted)
    for b, tile in enumerate(cache.values):
        wanted = np.zeros((tile.words * BLOCK_COLUMNS, LANES))
        if b == block:
            wanted[:dims] = kept
            wanted[:dims, lane] = value
        assert np.array_equal(columns(rig, tile), wanted)
