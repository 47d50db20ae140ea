"""The draft model's guesses: those that the whole model would say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from atoll.domain.generation import SamplingParams
from atoll.engine.draft import DraftEngine
from atoll.engine.draft_messages import DraftOptions, Wanted
from atoll.engine.whole import WholeModel

pytestmark = pytest.mark.engine

GREEDY = SamplingParams(temperature=0.0)
PROMPT = (504, 3575, 282, 253, 2885, 6330, 28, 339)


def options(model: Path) -> DraftOptions:
    return DraftOptions(
        model=str(model),
        n_slots=3,
        context=64,
        rows_max=32,
        threads=1,
        threads_large=1,
        hints_max=8,
    )


@pytest.fixture(scope="module")
def draft(demo_model: Path) -> DraftEngine:
    return DraftEngine(options(demo_model))


@pytest.fixture(scope="module")
def said(demo_model: Path) -> Iterator[tuple[int, ...]]:
    """What the model says behind the prompt."""
    whole = WholeModel(demo_model, n_slots=1, context=64, threads=1)
    yield whole.greedy([PROMPT], 12, stop_at_end=False).tokens[0]
    whole.close()


def ask(
    draft: DraftEngine,
    tokens: tuple[int, ...],
    n: int,
    *,
    slot: int = 0,
    keep: int = 0,
    hints: tuple[int, ...] = (),
    sampling: SamplingParams = GREEDY,
) -> tuple[int, ...]:
    [drafted] = draft.run([Wanted(slot, keep, tokens, hints, n, sampling)])
    assert not drafted.problem
    return drafted.tokens


def test_guesses_are_what_the_model_would_say(draft: DraftEngine, said: tuple[int, ...]) -> None:
    assert ask(draft, PROMPT, 4) == said[:4]
    # Three of the guesses were read; the fourth is given with the next question.
    assert ask(draft, said[3:4], 4, keep=len(PROMPT) + 3) == said[4:8]


@pytest.mark.parametrize("right", [0, 2, 5])
def test_hints_change_no_guess(draft: DraftEngine, said: tuple[int, ...], right: int) -> None:
    hints = (*said[:right], *([7] * (5 - right)))
    assert ask(draft, PROMPT, 6, hints=hints) == said[:6]
    assert ask(draft, said[5:6], 2, keep=len(PROMPT) + 5) == said[6:8]


def test_reading_alone_gives_no_guess(draft: DraftEngine, said: tuple[int, ...]) -> None:
    assert ask(draft, PROMPT[:5], 0) == ()
    assert ask(draft, PROMPT[5:], 2, keep=5) == said[:2]


def test_chance_is_that_of_the_position(draft: DraftEngine) -> None:
    warm = SamplingParams(temperature=1.2, seed=5)
    first = ask(draft, PROMPT, 5, sampling=warm)
    assert ask(draft, PROMPT, 5, sampling=warm) == first
    assert ask(draft, PROMPT, 5, sampling=replace(warm, seed=6)) != first
    # Position by position, from wherever it goes on.
    assert ask(draft, (*PROMPT, *first[:2]), 3, sampling=warm) == first[2:]


def test_slots_guess_together_what_each_guesses_alone(
    draft: DraftEngine, said: tuple[int, ...]
) -> None:
    other = tuple(reversed(PROMPT))
    alone = ask(draft, other, 5)
    drafted = draft.run(
        [
            Wanted(2, 0, other, (), 5, GREEDY),
            Wanted(0, 0, PROMPT, said[:2], 3, GREEDY),
            Wanted(1, 0, PROMPT[:4], (), 0, GREEDY),
        ]
    )
    assert [d.tokens for d in drafted] == [alone, said[:3], ()]


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        (Wanted(0, 0, (), (), 2, GREEDY), "0 tokens"),
        (Wanted(0, 0, (1,) * 33, (), 2, GREEDY), "33 tokens"),
        (Wanted(0, 0, (1,), (1,) * 9, 10, GREEDY), "9 hints"),
        (Wanted(0, 60, (1,) * 4, (), 2, GREEDY), "beyond the context"),
        (Wanted(0, 0, (1, 999999), (), 2, GREEDY), "outside the vocabulary"),
        (Wanted(0, 0, (-1,), (), 2, GREEDY), "outside the vocabulary"),
        (Wanted(0, 30, (1,), (), 2, GREEDY), "holds"),
    ],
)
def test_what_cannot_be_guessed_harms_no_other(
    draft: DraftEngine, said: tuple[int, ...], wanted: Wanted, problem: str
) -> None:
    ask(draft, PROMPT, 0)
    bad, good = draft.run([wanted, Wanted(1, 0, PROMPT, (), 2, GREEDY)])
    assert problem in bad.problem
    assert good.tokens == said[:2]
