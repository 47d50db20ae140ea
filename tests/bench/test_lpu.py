"""What simulated chips are held against, and that a wrong model would be noticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bench.lpu import determinism, graphs, run
from bench.lpu.decoder import logits_of
from bench.lpu.functional import (
    MAIN,
    TEXTS,
    TOKENS,
    Setting,
    check,
    divergence,
    references,
    same_top1,
    worst,
)
from bench.lpu.simulated import simulate
from tests.conftest import MakeModel
from tests.support.reference_decoder import ReferenceDecoder

from atoll.engine.float_weights import FloatWeights
from atoll.engine.lpu_session import LpuOptions
from atoll.lpu.check.conflicts import Conflict

SMALL = (
    Setting(MAIN, LpuOptions(context=TOKENS), 3),
    Setting("int8", LpuOptions(context=TOKENS, stored="int8"), 2),
)


def test_divergence_is_that_of_the_distributions() -> None:
    half, quarter = np.log(np.array([0.5, 0.5])), np.log(np.array([0.25, 0.75]))
    wanted = 0.5 * np.log(2) + 0.5 * np.log(0.5 / 0.75)
    assert divergence(half + 3, quarter - 1) == pytest.approx(wanted)
    assert divergence(half, half) == 0


@pytest.mark.parametrize("architecture", ["llama", "exaone"])
def test_a_text_at_once_is_its_tokens_one_by_one(
    random_model: MakeModel, architecture: str
) -> None:
    weights = FloatWeights(random_model(architecture, n_layers=3))
    facts, head = weights.facts, weights.head()
    texts = [
        np.stack([weights.embedding(token) for token in text]) for text in ((1, 40, 7, 9), (5, 6))
    ]
    layers = [weights.layer(n) for n in range(3)]
    for text, found in zip(texts, logits_of(facts, weights.layer, head, texts), strict=True):
        one_by_one = ReferenceDecoder(
            facts.shape, layers, head, facts.rotation, facts.eps, facts.half
        )
        expected = np.stack([one_by_one.token(row) for row in text])
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < 1e-4 * expected.std()


def test_groups_of_figures_have_keys_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "GROUPS", (lambda: {"kl": 1}, lambda: {"errors": 2}))
    assert run.run() == {"kl": 1, "errors": 2}
    monkeypatch.setattr(run, "GROUPS", (lambda: {"kl": 1}, lambda: {"kl": 2}))
    with pytest.raises(AssertionError):
        run.run()


@pytest.mark.engine
@pytest.mark.long
def test_on_unpacked_weights_the_engine_computes_in_f32(demo_model: Path) -> None:
    known = references(demo_model, FloatWeights(demo_model))
    assert [len(text) for text in known.texts] == [TOKENS] * len(TEXTS)
    assert {rows.shape for rows in known.engine} == {(TOKENS, 49_152)}
    assert worst(known.exact, known.engine) < 1e-4
    assert same_top1(known.exact, known.engine) == 1
    assert worst(known.exact, known.packed) > 1e-3


@pytest.mark.engine
def test_a_small_model(random_model: MakeModel) -> None:
    found = check(random_model(n_layers=2), SMALL)
    assert (found["positions"], found["int8_positions"]) == (3 * TOKENS, 2 * TOKENS)
    assert (found["weights"], found["int8_weights"]) == ("f16", "int8")
    # Its weights are not packed.
    assert found["engine_kl_f32"] == found["packed_engine_kl_f32"] < 1e-4
    assert found["kl"] == found["packed_kl"]
    assert found["engine_same_top1_f32"] == 1
    assert found["kl"] < 1e-4
    assert 1e-4 < found["int8_kl"] < 0.02
    assert found["same_top1"] > 0.9
    assert found["token_s"] > 0


@pytest.mark.engine
def test_another_model_is_noticed(random_model: MakeModel) -> None:
    """Only its queries and keys are turned less far."""
    path = random_model(n_layers=2)
    other = random_model(n_layers=2, keys=(("rope.freq_base", 100.0),))
    known = references(path, FloatWeights(path))
    options = LpuOptions(context=TOKENS)
    right, wrong = (simulate(p, [(options, known.texts[:3])])[0].logits for p in (path, other))
    assert worst(known.engine, wrong) > 100 * worst(known.engine, right)
    assert same_top1(known.engine, wrong) < same_top1(known.engine, right)


def test_random_schedules_have_no_conflicts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "STANDARD", {})
    found = graphs.run(20, first=50)
    assert (found["graphs"], found["conflicts"]) == (20, 0)
    assert set(found["compiled"]) == {"all-reduce", "encoder", "product", "decoder", "graph"}
    assert found["simulated"] > 0
    assert found["simulated_error"] < 0.02


def test_conflicts_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    conflict = Conflict("memory", "two at once", 0, 7, "slice 3")
    monkeypatch.setattr(graphs, "STANDARD", {})
    monkeypatch.setattr(graphs, "check", lambda *_: [conflict] * 3)
    assert graphs.run(2, first=16)["conflicts"] == 6


def test_processes_whose_hashes_differ_compile_the_same() -> None:
    assert determinism.run(whole=False)["deterministic"] == 1


def test_schedules_that_differ_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(determinism, "_lines", lambda seed, *, whole: ["a: 5", f"b: {seed}"])
    assert determinism.run() == {"deterministic": 0, "deterministic_digests": 2}
    monkeypatch.setattr(determinism, "_lines", lambda seed, *, whole: [])
    assert determinism.run()["deterministic"] == 0
