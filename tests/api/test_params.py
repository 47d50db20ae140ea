"""From fields to generations."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from atoll.api.backend import ModelCard
from atoll.api.errors import ApiError, ContextExceeded
from atoll.api.params import (
    check_model,
    check_stream_options,
    choice_seed,
    generations,
    sampling_of,
    stops_of,
)
from atoll.api.schema import ChatRequest
from atoll.domain.errors import BadRequest

CARD = ModelCard(name="m", created=0, context=100, n_vocab=50)


def asked(**fields: Any) -> ChatRequest:
    return msgspec.convert(
        {"model": "m", "messages": [{"role": "user", "content": "x"}], **fields}, ChatRequest
    )


def test_defaults_are_openais() -> None:
    sampling = sampling_of(asked(seed=4), CARD, None)
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (1.0, 1.0, 0)
    assert (sampling.min_p, sampling.repeat_penalty, sampling.logprobs) == (0.0, 1.0, None)
    assert sampling.seed == 4


def test_zero_is_not_taken_for_missing() -> None:
    sampling = sampling_of(asked(temperature=0, top_p=0), CARD, None)
    assert (sampling.temperature, sampling.top_p) == (0, 0)


def test_without_a_seed_one_is_drawn_each_time() -> None:
    seeds = {sampling_of(asked(), CARD, None).seed for _ in range(10)}
    assert len(seeds) == 10
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_negative_seeds_are_seeds_too() -> None:
    assert 0 <= sampling_of(asked(seed=-1), CARD, None).seed < 2**63


def test_choices_have_seeds_of_their_own() -> None:
    seeds = [choice_seed(9, index) for index in range(8)]
    assert seeds[0] == 9
    assert len(set(seeds)) == 8
    assert seeds == [choice_seed(9, index) for index in range(8)]


def test_a_biased_token_must_exist() -> None:
    assert sampling_of(asked(logit_bias={49: 1, 3: -1}), CARD, None).logit_bias == (
        (3, -1.0),
        (49, 1.0),
    )
    with pytest.raises(BadRequest) as caught:
        sampling_of(asked(logit_bias={50: 1}), CARD, None)
    assert caught.value.param == "logit_bias"


def make(request: ChatRequest, *prompts: int, max_tokens: int | None = None) -> list[int]:
    """The lengths that answers to prompts of these lengths may have."""
    out = generations(
        [tuple(range(n)) for n in prompts],
        request,
        sampling=sampling_of(request, CARD, None),
        max_tokens=max_tokens,
        card=CARD,
        param="messages",
    )
    return [generation.max_tokens for generation in out]


def test_length_is_what_the_context_leaves() -> None:
    assert make(asked(), 90) == [10]
    assert make(asked(), 90, max_tokens=10) == [10]
    assert make(asked(n=2), 10, 20) == [90, 90, 80, 80]


@pytest.mark.parametrize(("n_prompt", "max_tokens"), [(100, None), (101, None), (90, 11)])
def test_what_does_not_fit_is_refused(n_prompt: int, max_tokens: int | None) -> None:
    with pytest.raises(ContextExceeded) as caught:
        make(asked(), n_prompt, max_tokens=max_tokens)
    assert caught.value.param == "messages"


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(BadRequest, match="empty"):
        make(asked(), 0)


def test_too_many_choices_are_refused() -> None:
    assert len(make(asked(n=4), 5, 5)) == 8
    with pytest.raises(BadRequest) as caught:
        make(asked(n=5), 5, 5)
    assert caught.value.param == "n"


def test_stops() -> None:
    assert stops_of(asked()) == ()
    assert stops_of(asked(stop="a")) == ("a",)
    assert stops_of(asked(stop=["a", "b", "a"])) == ("a", "b")


def test_stream_options_need_a_stream() -> None:
    assert not check_stream_options(asked(stream=True))
    assert check_stream_options(asked(stream=True, stream_options={"include_usage": True}))
    with pytest.raises(BadRequest) as caught:
        check_stream_options(asked(stream_options={"include_usage": True}))
    assert caught.value.param == "stream_options"


def test_another_model_is_not_found() -> None:
    check_model("m", CARD)
    with pytest.raises(ApiError) as caught:
        check_model("n", CARD)
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")
