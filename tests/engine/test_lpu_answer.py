"""Answers from simulated chips: what is written, when they end, what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.conftest import MakeModel

from atoll.domain.errors import BadRequest
from atoll.domain.generation import SamplingParams
from atoll.engine import lpu_answer
from atoll.engine.lpu_answer import Audience, LpuAnswer, Question
from atoll.engine.lpu_session import LpuOptions
from atoll.engine.vocabulary import Vocabulary

pytestmark = pytest.mark.engine


@pytest.fixture
def question(random_model: MakeModel) -> Question:
    return Question(
        path=random_model(n_layers=2),
        name="small",
        prompt="the tree",
        options=LpuOptions(context=40),
        plain=True,
        max_tokens=5,
    )


def ask(question: Question) -> tuple[LpuAnswer, str, list[str]]:
    said: list[str] = []
    written: list[str] = []
    found = lpu_answer.answer(question, Audience(said.append, written.append))
    return found, "".join(written), said


def test_an_answer_comes_as_it_is_chosen(question: Question) -> None:
    found, written, said = ask(question)
    assert found.answer == written
    assert (found.finish_reason, found.answer_tokens) == ("length", 5)
    assert (found.model, found.weights, found.chips_used) == ("small", "f16", 1)
    assert found.token_us == pytest.approx(found.token_cycles / 900)
    prompt = [line for line in said if "of the prompt" in line]
    assert len(prompt) == found.prompt_tokens
    assert prompt[0].startswith(f"token 1 of {found.prompt_tokens} of the prompt: here ")
    assert ask(question)[0].answer == found.answer


def test_fewer_tokens_are_the_beginning(question: Question) -> None:
    assert ask(question)[1].startswith(ask(replace(question, max_tokens=2))[1])


def test_a_chat_has_more_in_it_than_its_text(question: Question) -> None:
    """The template's words stand around the message."""
    plain = ask(question)[0].prompt_tokens
    assert ask(replace(question, plain=False, max_tokens=1))[0].prompt_tokens > plain + 5


def test_an_answer_ends_where_the_context_does(question: Question) -> None:
    tokens = ask(question)[0].prompt_tokens
    options = LpuOptions(context=tokens + 2)
    found, *_ = ask(replace(question, options=options, max_tokens=None))
    assert (found.finish_reason, found.answer_tokens) == ("length", 3)
    with pytest.raises(BadRequest, match=f"the prompt has {tokens} tokens, and the context 3"):
        ask(replace(question, options=LpuOptions(context=3)))


def test_an_answer_ends_where_the_model_ends_it(
    question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Vocabulary, "is_end", lambda _self, _token: True)
    found, written, _ = ask(question)
    assert (found.finish_reason, found.answer_tokens, written) == ("stop", 1, "")


def test_chance_follows_the_seed(question: Question) -> None:
    def drawn(seed: int) -> str:
        sampling = SamplingParams(temperature=2.0, seed=seed)
        return ask(replace(question, sampling=sampling))[1]

    assert drawn(1) == drawn(1)
    assert len({drawn(seed) for seed in range(4)}) > 1
