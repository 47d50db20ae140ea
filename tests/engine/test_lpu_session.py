"""A model on simulated chips, token by token, beside the same decoder in NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.conftest import MakeModel
from tests.support.reference_decoder import ReferenceDecoder

from atoll.domain.errors import BadRequest
from atoll.engine.float_weights import FloatWeights
from atoll.engine.lpu_session import Heard, LpuOptions, LpuSession, place_model
from atoll.lpu.compiler.memory import Stored

TOKENS = [1, 40, 260, 7]
SOME = LpuOptions(context=4)


def open_session(path: Path, options: LpuOptions = SOME, heard: Heard | None = None) -> LpuSession:
    weights = FloatWeights(path)
    return LpuSession(weights, place_model(weights, options, heard), heard)


@pytest.mark.parametrize(
    ("architecture", "stored", "most"),
    [("llama", "f16", 0.02), ("exaone", "f16", 0.02), ("llama", "int8", 0.1)],
)
def test_logits_are_the_decoder_s(
    random_model: MakeModel, architecture: str, stored: Stored, most: float
) -> None:
    """Within what halves, or weights of 8 bits, leave: a graph that were another, as with heads
    turned the other way, would be off by as much as logits differ.
    """
    path = random_model(architecture, n_layers=2)
    session = open_session(path, LpuOptions(context=4, stored=stored))
    weights = FloatWeights(path)
    facts = weights.facts
    layers = [weights.layer(n) for n in range(2)]
    decoder, turned = (
        ReferenceDecoder(facts.shape, layers, weights.head(), facts.rotation, facts.eps, half)
        for half in (facts.half, not facts.half)
    )
    for token in TOKENS:
        row = weights.embedding(token)
        found, expected, other = session.token(token), decoder.token(row), turned.token(row)
        assert found.shape == (facts.shape.vocab,)
        assert np.abs(found - expected).max() < most * np.abs(expected).max()
    assert np.abs(other - expected).max() > most * np.abs(expected).max()


def test_a_new_sequence_begins_as_the_first_did(random_model: MakeModel) -> None:
    heard: list[str] = []
    session = open_session(random_model(n_layers=2), SOME, heard.append)
    assert heard[0] == "compiling for groups of 1, weights of f16"
    assert heard[1:] == ["laying out layer 1 of 2", "laying out layer 2 of 2"]
    first = [session.token(token) for token in TOKENS]
    assert session.position == 4
    with pytest.raises(BadRequest, match="the context of 4 positions is full") as found:
        session.token(1)
    assert found.value.hint
    session.reset()
    assert session.position == 0
    for token, before in zip(TOKENS, first, strict=True):
        assert np.array_equal(session.token(token), before)


def test_what_is_no_token_changes_nothing(random_model: MakeModel) -> None:
    session = open_session(random_model(n_layers=2))
    with pytest.raises(ValueError, match="outside the vocabulary"):
        session.token(100_000)
    assert session.position == 0


def test_what_does_not_fit(demo_model: Path) -> None:
    weights = FloatWeights(demo_model, "smollm2")
    with pytest.raises(BadRequest, match="smollm2 does not fit on 2 chips") as found:
        place_model(weights, LpuOptions(chips=2, stored="f16"))
    assert found.value.hint == "3 chips would do"
    assert place_model(weights, LpuOptions(chips=3, stored="f16")).chips_used == 3
    assert place_model(weights, LpuOptions(chips=1)).compiled.stored == "int8"


def test_as_few_chips_as_hold_the_model(demo_model: Path) -> None:
    weights = FloatWeights(demo_model)
    found = place_model(weights, LpuOptions())
    assert (found.compiled.stored, found.wanted.chips, found.chips_used) == ("f16", 3, 3)
    found = place_model(weights, LpuOptions(stored="int8"))
    assert (found.compiled.stored, found.wanted.chips) == ("int8", 1)
