"""Parts of attention against NumPy, on one lane group of two heads of keys."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.lpu_rig import LANES, Rig

from atoll.lpu.compiler.decoder.attention import Heads, Tables, Turns, mix, peaks, rotate, scores
from atoll.lpu.compiler.decoder.caches import VALUES_SIDE, Cache, indices
from atoll.lpu.program import SIDES

HEADS = Heads(slots=2, rows=3, dim=64)
POSITION, POSITIONS = 400, 900
LOW = -60000.0


def tables(rig: Rig, rng: np.random.Generator) -> tuple[Tables, np.ndarray]:
    """Tables of which one position's row is given, and its cosines and sines."""
    turns = rng.standard_normal((3, LANES)).astype(np.float16).astype(np.float64)
    rows = [np.vstack([np.zeros((2, LANES)), row]) for row in turns]
    places = (("west", 40), ("west", 42), ("east", 40))
    fixed = [
        rig.put(row, "f16", side=side, first=first)  # type: ignore[arg-type]
        for row, (side, first) in zip(rows, places, strict=True)
    ]
    for tensor in fixed:
        tensor.index = "turn"
    slots = []
    for n in range(HEADS.slots):
        lanes = np.zeros((1, LANES))
        lanes[0, n * HEADS.dim : (n + 1) * HEADS.dim] = 1
        slots.append(rig.put(lanes, "f16", side=SIDES[n % 2], first=2 * n))
    past = np.vstack([np.triu(np.full((LANES, LANES), LOW)), np.zeros((1, LANES))])
    kept = rig.put(past, "f16", side="east", first=42)
    return Tables(Turns(*fixed), tuple(slots), kept, rig.ones()), turns


@pytest.mark.parametrize("shift", [1, 32])
def test_lanes_are_turned_with_those_beside_them(shift: int) -> None:
    rng = np.random.default_rng(shift)
    rig = Rig()
    made, (cosine, after, before) = tables(rig, rng)
    x = rng.standard_normal((HEADS.rows, LANES)).astype(np.float16).astype(np.float64)
    given = rig.put(x, "f16", first=8)
    apart = rotate(rig.builder, given, made.turns, shift, made.slots[:2], count=HEADS.rows)
    [whole] = rotate(rig.builder, given, made.turns, shift, (), count=HEADS.rows)
    rig.run({"turn": 2})
    wanted = x * cosine + np.roll(x, -shift, 1) * after + np.roll(x, shift, 1) * before
    assert np.allclose(rig.get(whole), wanted, atol=2e-3 * np.abs(wanted).max())
    for n, tensor in enumerate(apart):
        lanes = slice(n * HEADS.dim, (n + 1) * HEADS.dim)
        found = rig.get(tensor)
        assert np.array_equal(found[:, lanes], rig.get(whole)[:, lanes])
        assert not np.delete(found, lanes, axis=1).any()


def test_softmax_of_scores_times_values() -> None:
    rng = np.random.default_rng(1)
    rig = Rig()
    made, _ = tables(rig, rng)
    blocks = -(-POSITIONS // LANES)
    keys = rng.standard_normal((blocks * LANES, HEADS.lanes)).astype(np.float16)
    values = rng.standard_normal((blocks * LANES, HEADS.lanes)).astype(np.float16)
    key_tiles, value_tiles = [], []
    for b in range(blocks):
        some = slice(b * LANES, (b + 1) * LANES)
        padded = np.zeros((LANES, LANES))
        padded[: HEADS.lanes] = keys[some].T
        key_tiles.append(rig.tile(padded, side=SIDES[b % 2]))
        value_tiles.append(rig.tile(values[some].astype(np.float64), side=VALUES_SIDE))
    cache = Cache(tuple(key_tiles), tuple(value_tiles), HEADS.lanes)
    query = rng.standard_normal((HEADS.slots, HEADS.rows, HEADS.dim)).astype(np.float16)
    apart = []
    for n in range(HEADS.slots):
        wide = np.zeros((HEADS.rows, LANES))
        wide[:, n * HEADS.dim : (n + 1) * HEADS.dim] = query[n]
        apart.append(rig.put(wide, "f16", side=SIDES[n], first=36))
    found = scores(rig.builder, apart, cache, made, since=0)
    peak = peaks(rig.builder, found)
    into = rig.memory.scratch("f16", HEADS.rows)
    mix(rig.builder, found, peak, cache, heads=HEADS, ones=made.ones, since=0, into=into)
    rig.run(indices(POSITION, positions=POSITIONS, lanes=LANES, dims=[]))
    result = rig.get(into)
    for n in range(HEADS.slots):
        lanes = slice(n * HEADS.dim, (n + 1) * HEADS.dim)
        here = np.arange(POSITION + 1)
        score = query[n].astype(np.float64) @ keys[here, lanes].T.astype(np.float64)
        share = np.exp(score - score.max(1, keepdims=True))
        share /= share.sum(1, keepdims=True)
        wanted = share @ values[here, lanes].astype(np.float64)
        assert np.abs(result[:, lanes] - wanted).max() < 3e-3
        greatest = rig.get(peak)[n * HEADS.rows : (n + 1) * HEADS.rows]
        assert np.allclose(greatest, score.max(1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize(("blocks", "rows"), [(1, 5), (7, 5), (13, 5), (20, 5), (13, 16)])
def test_the_greatest_of_many_blocks(blocks: int, rows: int) -> None:
    rng = np.random.default_rng(blocks)
    rig = Rig()
    some = [rng.standard_normal((rows, LANES)).astype(np.float32) for _ in range(blocks)]
    tensors = []
    for block in some:
        room = rig.memory.scratch("f32", 1)
        tensors.append(rig.put(block, "f32", side=room.side, first=room.slices[0]))
    peak = peaks(rig.builder, tensors)
    rig.run()
    wanted = np.max(np.concatenate(some, axis=1), axis=1)
    assert np.array_equal(rig.get(peak), np.repeat(wanted[:, None], LANES, 1))
