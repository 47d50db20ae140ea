from __future__ import annotations

import random
from dataclasses import replace

import pytest

from atoll.domain.generation import GenerateRequest, SamplingParams
from atoll.domain.ids import Slot
from atoll.ring.coordinator_messages import DraftItem, RunDraft
from atoll.sim import fake_draft
from atoll.sim.fake_draft import FakeDraft
from atoll.sim.fake_model import ModelMisuse, expected_output
from atoll.sim.scenario import make_scenario

REQUEST = GenerateRequest((1, 2, 3), 6, ignore_eos=True)


def item(keep: int, tokens: tuple[int, ...], n: int = 2, hints: tuple[int, ...] = ()) -> DraftItem:
    return DraftItem(Slot(0), keep, tokens, hints, n, SamplingParams())


@pytest.fixture
def draft(monkeypatch: pytest.MonkeyPatch) -> FakeDraft:
    """One that is always right and never fails."""
    monkeypatch.setattr(fake_draft, "FAIL_RATE", 0.0)
    rng = random.Random(1)
    scenario = make_scenario(rng)
    config = replace(scenario.coordinator, context=12)
    return FakeDraft([REQUEST], replace(scenario, guess_rate=1.0, coordinator=config), rng)


def test_it_goes_on_as_the_model_will(draft: FakeDraft) -> None:
    scenario = make_scenario(random.Random(1))
    said = [s.token for s in expected_output(REQUEST, scenario.n_layers, 12)]
    assert draft.run(RunDraft((item(0, (1, 2, 3)),))) == (tuple(said[:2]),)
    # It has read its own first guess.
    assert draft.run(RunDraft((item(4, (said[1],)),))) == (tuple(said[2:4]),)


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ([item(3, (1,))], "0 tokens were read, not 3"),
        ([item(0, ())], "0 hints"),
        ([item(0, (1,), 2, (5, 6))], "2 hints at 2 guesses"),
        ([item(0, tuple(range(12)), 2)], "beyond the context"),
        ([item(0, (1,)), item(0, (1,))], "twice"),
    ],
)
def test_what_must_not_be_asked(draft: FakeDraft, asked: list[DraftItem], problem: str) -> None:
    with pytest.raises(ModelMisuse, match=problem):
        draft.run(RunDraft(tuple(asked)))


def test_who_fails_has_read_nothing(draft: FakeDraft, monkeypatch: pytest.MonkeyPatch) -> None:
    draft.run(RunDraft((item(0, (1, 2, 3)),)))
    monkeypatch.setattr(fake_draft, "FAIL_RATE", 1.0)
    assert draft.run(RunDraft((item(3, (4,)),))) == (None,)
    with pytest.raises(ModelMisuse, match="0 tokens were read"):
        draft.run(RunDraft((item(1, (4,)),)))
