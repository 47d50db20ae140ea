"""Words of memory against the numbers that they are to hold."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.lpu_small import timing_of
from tests.support.reference_decoder import random_weights

from atoll.forecast.shapes import ModelShape
from atoll.lpu.compiler.decoder.decode import Compiled, DecodeCompiler, split
from atoll.lpu.compiler.memory import Piece, Stored
from atoll.lpu.laying import VERY_LOW, Laying, Rotation

LANES = 320
SHAPE = ModelShape(
    name="small",
    layers=1,
    hidden=700,
    heads=4,
    kv_heads=2,
    head_dim=32,
    ffn=400,
    vocab=90,
)
LAYERS, HEAD = random_weights(SHAPE, 1)
LAYER = LAYERS[0]


def laid(stored: Stored, chips: int = 2, *, half: bool = False) -> tuple[Compiled, Laying]:
    parts = split(SHAPE, chips, 50, LANES, half=half)
    compiled = DecodeCompiler(timing_of(), parts, stored).compile()
    return compiled, Laying(compiled, Rotation(32, 10_000.0), lambda _: LAYER, lambda: HEAD)


def pieces(compiled: Compiled, routine: str, what: str, part: tuple[int, ...] = ()) -> list[Piece]:
    return [p for p in compiled.pieces[routine] if p.what == what and p.part == part]


def halves(words: np.ndarray) -> np.ndarray:
    """Vectors of pairs of slices, in the order of words and pairs: shape (vectors, lanes)."""
    pairs = words.reshape(-1, 2, LANES).transpose(0, 2, 1)
    return np.ascontiguousarray(pairs).view("<f2")[..., 0].astype(np.float64)


def singles(words: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(words.transpose(0, 2, 1)).view("<f4")[..., 0]


def test_columns_of_a_tile_of_halves_lie_beside_each_other() -> None:
    compiled, laying = laid("f16")
    # The second chip keeps block 1 of the hidden vector first; its part of the gates begins at
    # 200.
    [piece] = pieces(compiled, "feed-forward", "inner", (1, 0))
    found = halves(laying.words(piece, "feed-forward", 0, 1))
    wanted = LAYER.gate[200:400, 0:320].astype(np.float16)
    assert np.array_equal(found[:200], wanted)
    assert not found[200:].any()


def test_columns_of_bytes_lie_on_both_sides_with_a_scale_each() -> None:
    compiled, laying = laid("int8", chips=1)
    sides = pieces(compiled, "attention", "output", (0, 1))
    words = {p.side: laying.words(p, "attention", 0, 0).view(np.int8) for p in sides}
    numbers = np.concatenate([words["west"], words["east"]], axis=1).reshape(-1, LANES)
    [scales] = pieces(compiled, "attention", "output scales", (1,))
    scale = singles(laying.words(scales, "attention", 0, 0))[0]
    # Lanes of the first vector of queries are heads 0 and 2, the first that share each of the
    # two heads of keys.
    lanes = np.r_[0:32, 64:96]
    wanted = LAYER.output[320:640, lanes]
    found = numbers[:, : len(lanes)] * scale[:, None]
    assert np.abs(found - wanted).max() <= scale.max() / 2 + 1e-6
    assert not numbers[:, len(lanes) :].any()
    assert numbers.max() == 127 or numbers.min() == -127


def test_queries_carry_the_factor_of_their_scores() -> None:
    compiled, laying = laid("f16")
    [piece] = pieces(compiled, "attention", "qkv", (0, 2))
    found = halves(laying.words(piece, "attention", 0, 0))[:32]
    assert np.allclose(found, LAYER.query[:32, :320] / np.sqrt(32), atol=2e-3)
    [keys] = pieces(compiled, "attention", "qkv", (0, 0))
    found = halves(laying.words(keys, "attention", 0, 1))[:32]
    assert np.array_equal(found, LAYER.key[32:64, 320:640].astype(np.float16))


@pytest.mark.parametrize("half", [False, True])
def test_a_rotation_by_its_tables(half: bool) -> None:
    compiled, laying = laid("f16", half=half)
    rows = {
        what: halves(laying.words(pieces(compiled, "", what)[0], "", 0, 0))[7]
        for what in ("cosine", "after", "before")
    }
    x = np.random.default_rng(0).standard_normal(LANES)
    shift = 16 if half else 1
    turned = (
        x * rows["cosine"] + np.roll(x, -shift) * rows["after"] + np.roll(x, shift) * rows["before"]
    )
    first = np.r_[0:16] if half else np.r_[0:32:2]
    pair = x[32 + first] + 1j * x[32 + first + shift]
    wanted = pair * np.exp(7j * 10_000.0 ** (-np.arange(16) / 16))
    assert np.allclose(turned[32 + first], wanted.real, atol=4e-3)
    assert np.allclose(turned[32 + first + shift], wanted.imag, atol=4e-3)


def test_masks_let_the_positions_through_that_there_are() -> None:
    compiled, laying = laid("f16")
    [piece] = pieces(compiled, "", "past")
    rows = halves(laying.words(piece, "", 0, 0))
    assert rows.shape == (321, LANES)
    assert (rows[5, :5] == 0).all()
    assert (rows[5, 5:] == VERY_LOW).all()
    assert not rows[320].any()


def test_the_hidden_vector_is_in_the_order_of_a_chip() -> None:
    _, laying = laid("f16")
    values = np.arange(700, dtype=np.float32)
    words = singles(laying.hidden(values, 1))
    assert [words[n, 0] for n in range(3)] == [320.0, 0.0, 640.0]


def test_logits_are_a_chips_part_of_the_vocabulary() -> None:
    compiled, laying = laid("f16")
    values = np.arange(compiled.logits.count * LANES, dtype="<f4").reshape(-1, LANES)
    words = values[..., None].view(np.uint8).transpose(0, 2, 1)
    assert laying.logits(words).tolist() == list(range(45))


def test_caches_are_empty_before_the_first_token() -> None:
    compiled, laying = laid("f16")
    for what, part in (("keys", (0, 0)), ("values", (0, 0)), ("spare", (0,))):
        for piece in pieces(compiled, "attention", what, part):
            assert not laying.words(piece, "attention", 0, 0).any()
