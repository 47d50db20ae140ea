"""Text to tokens and back, by the real vocabulary of the demo model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.engine.llama import Model
from atoll.engine.vocabulary import CONTROL, NO_TOKEN, Vocabulary

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def demo(demo_model: Path) -> Iterator[Vocabulary]:
    model = Model(demo_model, vocab_only=True)
    yield Vocabulary(model)
    model.close()


@pytest.fixture
def small(random_model: Callable[..., Path]) -> Iterator[Vocabulary]:
    model = Model(random_model("llama"), vocab_only=True)
    yield Vocabulary(model)
    model.close()


def joined(vocabulary: Vocabulary, tokens: list[int]) -> str:
    return b"".join(vocabulary.piece(token) for token in tokens).decode()


WRITTEN = st.characters(categories=["L", "N", "P", "S", "Zs"], max_codepoint=0xFFFF)
"""The demo model has no tokens for some bytes, such as 0x16 and 0xF1: they are lost in it."""


@given(text=st.text(WRITTEN, max_size=80))
@settings(max_examples=200)
def test_text_comes_back(demo: Vocabulary, text: str) -> None:
    tokens = demo.tokens(text, add_special=False, parse_special=False)
    assert all(0 <= token < demo.n_tokens for token in tokens)
    assert joined(demo, tokens) == text


def test_known_tokens(demo: Vocabulary) -> None:
    assert demo.n_tokens == 49_152
    assert demo.tokens("Hello world", add_special=False, parse_special=False) == [19556, 905]
    assert demo.piece(19556) == b"Hello"
    assert demo.tokens("", add_special=False, parse_special=False) == []


def test_longer_texts_than_the_first_guess_are_whole(demo: Vocabulary) -> None:
    text = "\u00e9\U0001f600 x\n" * 500
    tokens = demo.tokens(text, add_special=False, parse_special=False)
    assert joined(demo, tokens) == text


def test_texts_of_control_tokens_are_tokens_only_where_asked(demo: Vocabulary) -> None:
    end = demo.eos
    assert demo.text_of(end) == "<|im_end|>"
    assert demo.tokens("<|im_end|>", add_special=False, parse_special=True) == [end]
    plain = demo.tokens("<|im_end|>", add_special=False, parse_special=False)
    assert end not in plain
    assert joined(demo, plain) == "<|im_end|>"


def test_control_tokens_are_shown_only_where_asked(demo: Vocabulary) -> None:
    assert demo.piece(demo.eos) == b""
    assert demo.piece(demo.eos, special=True) == b"<|im_end|>"
    assert demo.piece(demo.eos) == b""
    assert demo.is_end(demo.eos)
    assert demo.is_control(demo.eos)
    assert demo.attributes(demo.eos) & CONTROL
    assert not demo.is_end(19556)
    assert not demo.is_control(19556)


def test_parts_of_characters_are_bytes(demo: Vocabulary) -> None:
    tokens = demo.tokens("\U00012345", add_special=False, parse_special=False)
    pieces = [demo.piece(token) for token in tokens]
    assert len(pieces) > 1
    assert b"".join(pieces).decode() == "\U00012345"
    with pytest.raises(UnicodeDecodeError):
        pieces[0].decode()


@pytest.mark.parametrize("token", [-1, 49_152, 2**31])
def test_pieces_of_tokens_that_do_not_exist_are_refused(demo: Vocabulary, token: int) -> None:
    for special in (False, True):
        with pytest.raises(ValueError, match="outside the vocabulary"):
            demo.piece(token, special=special)


def test_no_token_has_no_text(demo: Vocabulary) -> None:
    assert demo.text_of(NO_TOKEN) == ""


def test_the_beginning_is_added_where_the_model_wants_it(
    demo: Vocabulary, small: Vocabulary
) -> None:
    assert small.adds_bos
    assert small.tokens("the", add_special=True, parse_special=False)[0] == small.bos == 1
    assert small.tokens("the", add_special=False, parse_special=False)[0] != small.bos
    assert not demo.adds_bos
    with_special = demo.tokens("the", add_special=True, parse_special=False)
    assert with_special == demo.tokens("the", add_special=False, parse_special=False)


def test_byte_tokens_are_bytes(small: Vocabulary) -> None:
    assert small.piece(3 + 0xC3) == b"\xc3"
    assert small.is_end(2)
