from __future__ import annotations

import pytest
from bench.far_measures import CROWD
from bench.far_prompts import KINDS, Deck, articles, chat, prompts_of

ROUNDS, DELAYS = 3, 4


@pytest.mark.parametrize("kind", KINDS)
def test_there_are_enough_for_a_run_without_asking_one_twice(kind: str) -> None:
    known = prompts_of(kind)
    assert len(set(known)) == len(known)
    assert len(known) >= ROUNDS * DELAYS * (1 + CROWD[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_a_deck_deals_all_before_it_deals_one_again(kind: str) -> None:
    deck, n = Deck.fresh(), len(prompts_of(kind))
    dealt = [deck.deal(kind, 1)[0] for _ in range(5)] + deck.deal(kind, n - 5)
    assert len(set(dealt)) == n
    assert deck.deal(kind, 1) == dealt[:1]


def test_neighbours_share_no_text() -> None:
    known, n = prompts_of("summarise"), len(articles())
    assert len({prompt.split("\n\n", 1)[1] for prompt in known[3 : 3 + n]}) == n


def test_a_conversation_is_written_as_the_model_reads_it() -> None:
    assert chat("Hello", "Hi.", "And?") == (
        "<|im_start|>user\nHello<|im_end|>\n"
        "<|im_start|>assistant\nHi.<|im_end|>\n"
        "<|im_start|>user\nAnd?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
