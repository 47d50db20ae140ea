"""The whole model in one process: several prompts together as one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from atoll.engine.whole import WholeModel

pytestmark = pytest.mark.engine

TEXTS = ("The capital of France is", "Once upon a time", "2 + 2 =")


@pytest.fixture(scope="module")
def demo(demo_model: Path) -> Iterator[WholeModel]:
    model = WholeModel(demo_model, n_slots=4, context=256, threads=2)
    yield model
    model.close()


def prompts_of(model: WholeModel) -> list[list[int]]:
    return [model.vocabulary.tokens(text, add_special=True, parse_special=False) for text in TEXTS]


def text_of(model: WholeModel, tokens: tuple[int, ...]) -> str:
    return b"".join(model.vocabulary.piece(token) for token in tokens).decode()


def test_several_prompts_give_what_each_gives_alone(demo: WholeModel) -> None:
    prompts = prompts_of(demo)
    alone = [demo.greedy([prompt], 12, exact=True).tokens[0] for prompt in prompts]
    together = demo.greedy(prompts, 12, exact=True)
    assert list(together.tokens) == alone
    assert "Paris" in text_of(demo, alone[0])
    assert len(set(alone)) == 3


def test_slots_may_end_at_different_times(demo: WholeModel) -> None:
    """The model ends its answer to a chat soon; the text beside it goes on."""
    chat = demo.vocabulary.tokens(
        "<|im_start|>user\nSay yes.<|im_end|>\n<|im_start|>assistant\n",
        add_special=False,
        parse_special=True,
    )
    story, sums = prompts_of(demo)[1:]
    alone = [demo.greedy([prompt], 24, exact=True).tokens[0] for prompt in (story, chat, sums)]
    together = demo.greedy([story, chat, sums], 24, exact=True)
    assert list(together.tokens) == alone
    assert len(alone[1]) < 24
    assert demo.vocabulary.is_end(alone[1][-1])
    on = demo.greedy([chat], 24, exact=True, stop_at_end=False).tokens[0]
    assert len(on) == 24
    assert on[: len(alone[1])] == alone[1]


def test_a_run_says_what_it_took(demo: WholeModel) -> None:
    run = demo.greedy(prompts_of(demo)[:2], 4, stop_at_end=False)
    assert [len(tokens) for tokens in run.tokens] == [4, 4]
    assert run.steps == 3
    assert run.prefill_s > 0
    assert run.decode_s > 0
    one = demo.greedy(prompts_of(demo)[:1], 1)
    assert (len(one.tokens[0]), one.steps) == (1, 0)


def test_long_prompts_are_split(random_model: Callable[..., Path]) -> None:
    """In exact mode into calls of 63 rows, else into micro-batches."""
    model = WholeModel(random_model("llama"), n_slots=1, context=512, threads=1, rows_max=100)
    prompt = [3 + i * 7 % 250 for i in range(300)]
    runs = {
        model.greedy([prompt], 5, exact=exact, stop_at_end=False).tokens for exact in (False, True)
    }
    assert all(len(tokens) == 5 for (tokens,) in runs)
    with pytest.raises(ValueError, match="beyond"):
        model.greedy([prompt * 2], 2)
    with pytest.raises(ValueError, match="beyond"):
        model.greedy([prompt[:3], prompt[:3]], 2)
    model.close()
