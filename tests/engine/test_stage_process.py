"""A stage's batches: everybody's own rows, and one window's trouble is its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests.support.cut_models import Rows, rescale

from atoll.domain.errors import BadModel, EngineFault
from atoll.domain.wire import F16_SCALED, F32, I8_BLOCKS
from atoll.engine import codec
from atoll.engine.child import EngineChild
from atoll.engine.library import ENGINE_BUILD
from atoll.engine.stage_messages import (
    Compute,
    Computed,
    Drop,
    Item,
    Loaded,
    StageOptions,
    StageReply,
)
from atoll.engine.stage_process import StageEngine

pytestmark = pytest.mark.engine

MODULE = "atoll.engine.stage_process"


def options(shard: Path) -> StageOptions:
    return StageOptions(
        path=str(shard), n_slots=6, context=128, rows_max=64, threads=1, threads_large=2
    )


@pytest.fixture
def engine(small_shards: list[Path]) -> StageEngine:
    return StageEngine(options(small_shards[1]))


@pytest.fixture(scope="module")
def demo(demo_thirds: list[Path]) -> StageEngine:
    return StageEngine(options(demo_thirds[1]))


def states(engine: StageEngine, n: int, seed: int = 0) -> Rows:
    return np.random.default_rng(seed).standard_normal((n, engine.n_embd)).astype(np.float32)


def item(slot: int, keep: int, rows: int, *, exact: bool = True, encoding: str = F32) -> Item:
    return Item(slot, keep, rows, exact, encoding)


def compute(engine: StageEngine, items: Sequence[Item], windows: Sequence[Rows]) -> list[Rows]:
    """Outputs of a batch in which nothing goes wrong."""
    payload = b"".join(
        codec.encode(rows, it.encoding) for it, rows in zip(items, windows, strict=True)
    )
    outputs, problems, engine_s = engine.compute(tuple(items), payload)
    assert problems == [""] * len(items)
    assert engine_s > 0
    found = [np.empty_like(rows) for rows in windows]
    for out, it, output in zip(found, items, outputs, strict=True):
        codec.decode_into(out, output, it.encoding)
    return found


BATCHES = [
    ((0, 1, 2, 3), (1, 1, 1, 1)),
    ((3, 1, 0, 2), (1, 1, 1, 1)),
    ((0, 2, 4), (1, 1, 1)),
    ((5, 0, 3), (2, 7, 2)),
    ((1, 0, 3, 2), (5, 1, 5, 1)),
    ((4, 5, 0, 1), (30, 30, 30, 30)),
    ((2, 1), (63, 1)),
]


@pytest.mark.parametrize(("slots", "rows"), BATCHES)
def test_merged_sessions_get_back_their_own_rows(
    demo: StageEngine, slots: tuple[int, ...], rows: tuple[int, ...]
) -> None:
    """In any order of slots, with holes among them, and with unequal numbers of rows.

    Every session has a past of its own, is computed alone, rolled back, and
    computed again in the batch: the same bits.
    """
    pasts = [3 + slot for slot in slots]
    for slot, past in zip(slots, pasts, strict=True):
        compute(demo, [item(slot, 0, past)], [states(demo, past, seed=slot)])
    items = [item(slot, past, n) for slot, past, n in zip(slots, pasts, rows, strict=True)]
    windows = [states(demo, n, seed=50 + i) for i, n in enumerate(rows)]
    alone = [compute(demo, [one], [window])[0] for one, window in zip(items, windows, strict=True)]
    merged = compute(demo, items, windows)
    for i in range(len(items)):
        assert np.array_equal(merged[i], alone[i]), f"item {i} of {items}"


def test_rows_of_the_batches_above_could_be_told_apart(demo: StageEngine) -> None:
    """The same window behind another past gives something else."""
    window = states(demo, 1, seed=99)
    outs = []
    for slot in range(3):
        compute(demo, [item(slot, 0, 4)], [states(demo, 4, seed=slot)])
        outs.append(compute(demo, [item(slot, 4, 1)], [window])[0])
    assert not np.allclose(outs[0], outs[1], atol=0.01)
    assert not np.allclose(outs[1], outs[2], atol=0.01)


def test_exact_and_others_in_all_encodings_share_a_batch(engine: StageEngine) -> None:
    items = [
        item(0, 0, 2, exact=False, encoding=F16_SCALED),
        item(1, 0, 2),
        item(2, 0, 3, exact=False),
        item(3, 0, 2, exact=False, encoding=I8_BLOCKS),
    ]
    windows = [states(engine, it.rows, seed=it.slot) for it in items]
    alone = [compute(engine, [it], [w])[0] for it, w in zip(items, windows, strict=True)]
    merged = compute(engine, items, windows)
    for one, other in zip(merged, alone, strict=True):
        assert np.allclose(one, other, atol=0.1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("encoding", [F32, F16_SCALED, I8_BLOCKS])
def test_a_window_that_is_not_finite_is_a_problem_of_its_own(
    engine: StageEngine, bad: float, encoding: str
) -> None:
    """Both windows have as many rows and neighbouring slots: they share a call."""
    good = states(engine, 3, seed=1)
    items = [item(0, 0, 3, encoding=encoding), item(1, 0, 3, encoding=encoding)]
    expected = compute(engine, items, [good, good])[1]
    poisoned = bytearray(codec.encode(good, encoding))
    # The second value, or the second scale.
    written = np.array([bad], "<f2" if encoding == F16_SCALED else "<f4").tobytes()
    if encoding == I8_BLOCKS:
        written = written[2:]
    at = len(written) + (good.size if encoding == I8_BLOCKS else 0)
    poisoned[at : at + len(written)] = written
    payload = bytes(poisoned) + codec.encode(good, encoding)
    outputs, problems, _ = engine.compute(tuple(items), payload)
    assert problems == ["the window holds NaN or infinity", ""]
    assert outputs[0] == b""
    found = np.empty_like(good)
    codec.decode_into(found, outputs[1], encoding)
    assert np.array_equal(found, expected)


def test_a_slot_that_got_nan_is_clean_afterwards(engine: StageEngine) -> None:
    good = states(engine, 4, seed=2)
    expected = compute(engine, [item(0, 0, 4)], [good])[0]
    poisoned = good.copy()
    poisoned[2, 5] = np.nan
    _, problems, _ = engine.compute((item(0, 0, 4),), poisoned.tobytes())
    assert problems != [""]
    again, problems, _ = engine.compute((item(0, 4, 1),), good[:1].tobytes())
    assert (again, problems) == ([b""], ["slot 0 holds 0 positions, not 4"])
    assert np.array_equal(compute(engine, [item(0, 0, 4)], [good])[0], expected)


@pytest.fixture
def large(small_shards: list[Path]) -> StageEngine:
    """Windows of 64 rows and more, which bring forgotten cells into reach."""
    return StageEngine(msgspec.structs.replace(options(small_shards[1]), rows_max=128))


@pytest.mark.parametrize("bad_row", [0, 99])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_window_that_is_not_finite_spoils_no_later_session(
    large: StageEngine, bad: float, bad_row: int
) -> None:
    good, one = states(large, 80, seed=3), item(0, 0, 80, exact=False)
    expected = compute(large, [one], [good])[0]
    large.drop(0)
    poisoned = states(large, 100, seed=4)
    poisoned[bad_row, 5] = bad
    _, problems, _ = large.compute((item(0, 0, 100, exact=False),), poisoned.tobytes())
    assert problems == ["the window holds NaN or infinity"]
    for _session in range(2):
        large.drop(0)
        assert np.array_equal(compute(large, [one], [good])[0], expected)


def test_the_sound_rest_of_a_call_goes_on_in_calls_of_its_own(engine: StageEngine) -> None:
    """Slots 0, 2 and 3 are left of a call of four: two calls, each the bits of one alone."""
    good = states(engine, 2, seed=4)
    items = [item(slot, 0, 2) for slot in range(4)]
    expected = compute(engine, items, [good] * 4)
    windows = [good, np.full_like(good, np.nan), good, good]
    outputs, problems, _ = engine.compute(tuple(items), b"".join(w.tobytes() for w in windows))
    assert problems == ["", "the window holds NaN or infinity", "", ""]
    for i in (0, 2, 3):
        assert np.array_equal(np.frombuffer(outputs[i], "<f4"), expected[i].ravel())


def test_nan_that_arises_inside_spoils_no_later_session(
    small_shards: list[Path], tmp_path: Path
) -> None:
    """A layer that overflows with ordinary windows, and not with tiny ones."""
    path = rescale(small_shards[1], "blk.0.ffn_down.weight", 1e38, tmp_path / "hot.gguf")
    hot = StageEngine(msgspec.structs.replace(options(path), rows_max=128))
    tiny = states(hot, 80, seed=5) * np.float32(1e-12)
    one = item(0, 0, 80, exact=False)
    expected = compute(hot, [one], [tiny])[0]
    hot.drop(0)
    ordinary = states(hot, 100, seed=6).tobytes()
    _, problems, _ = hot.compute((item(0, 0, 100, exact=False),), ordinary)
    assert problems == ["the stage computed NaN or infinity"]
    assert np.array_equal(compute(hot, [one], [tiny])[0], expected)


def test_huge_but_finite_windows_that_overflow_inside_are_told_apart(engine: StageEngine) -> None:
    """What the neighbour sent was sound; the numbers broke here."""
    rows = np.full((1, engine.n_embd), 3e38, np.float32)
    outputs, problems, _ = engine.compute((item(0, 0, 1),), rows.tobytes())
    assert (outputs == [b""]) == (problems != [""])
    assert problems in ([""], ["the stage computed NaN or infinity"])


def test_positions_that_do_not_continue_are_a_problem(engine: StageEngine) -> None:
    rows = states(engine, 2)
    compute(engine, [item(0, 0, 2)], [rows])
    _, problems, _ = engine.compute((item(0, 5, 2),), rows.tobytes())
    assert problems == ["slot 0 holds 2 positions, not 5"]
    engine.drop(0)
    _, problems, _ = engine.compute((item(0, 2, 2),), rows.tobytes())
    assert problems == ["slot 0 holds 0 positions, not 2"]
    compute(engine, [item(0, 0, 2)], [rows])


def test_a_gap_is_a_problem_of_its_own(engine: StageEngine) -> None:
    """A session whose last window failed, beside one that would share its call."""
    rows = states(engine, 2)
    expected = compute(engine, [item(0, 0, 2), item(1, 0, 2)], [rows, rows])[1]
    engine.drop(0)
    outputs, problems, _ = engine.compute((item(0, 2, 2), item(1, 0, 2)), rows.tobytes() * 2)
    assert problems == ["slot 0 holds 0 positions, not 2", ""]
    assert outputs[0] == b""
    assert np.allclose(np.frombuffer(outputs[1], "<f4"), expected.ravel(), atol=0.1)


def test_impossible_batches_are_refused_before_the_engine_sees_them(engine: StageEngine) -> None:
    """The node checks these on every window; the engine must not abort even so."""
    rows = states(engine, 2)
    for items, payload in (
        ((item(0, 0, 1), item(0, 0, 1)), rows.tobytes()),
        ((item(9, 0, 2),), rows.tobytes()),
        ((item(0, 0, 65),), states(engine, 65).tobytes()),
        ((item(0, -1, 2),), rows.tobytes()),
        ((item(0, 0, 2),), rows.tobytes()[:-1]),
    ):
        with pytest.raises(ValueError, match=r"twice|beyond|between|does not hold"):
            engine.compute(items, payload)
    compute(engine, [item(0, 0, 2)], [rows])


def test_a_shard_says_what_it_is(engine: StageEngine) -> None:
    assert (engine.n_embd, engine.n_layers) == (64, 2)
    assert engine.build == ENGINE_BUILD
    engine.close()


def test_a_file_that_is_no_shard_is_refused(tmp_path: Path) -> None:
    junk = tmp_path / "junk.gguf"
    junk.write_bytes(b"GGUF" + b"\0" * 500)
    with pytest.raises(BadModel, match=r"junk\.gguf"):
        StageEngine(options(junk))


async def _talk(first: msgspec.Struct) -> Loaded | Computed:
    decoder = msgspec.msgpack.Decoder(StageReply)
    child = EngineChild[Loaded | Computed](
        "stage process", decoder, lambda _reply, _payload: None, lambda _fault: None
    )
    try:
        return await child.start(MODULE, first, memory_bytes=None, env={})
    finally:
        await child.close()


@pytest.mark.parametrize("first", [Compute(1, ()), Drop(0)])
async def test_work_before_loading_is_refused(first: msgspec.Struct) -> None:
    with pytest.raises(EngineFault, match="before it was loaded"):
        await _talk(first)


async def test_the_process_reports_what_it_loaded_and_how_it_is_confined(
    small_shards: list[Path],
) -> None:
    loaded = await _talk(options(small_shards[0]))
    assert isinstance(loaded, Loaded)
    assert (loaded.n_embd, loaded.n_layers) == (64, 2)
    assert loaded.load_s > 0
    assert any(name.endswith("rlimit_core") for name in loaded.isolation)
