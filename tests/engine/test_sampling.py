from __future__ import annotations

import itertools
import math
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from atoll.domain.errors import BadRequest, EngineFault
from atoll.domain.generation import SamplingParams
from atoll.engine import sampling
from atoll.engine.sampling import Sampler, best_tokens, chance

GREEDY = SamplingParams(temperature=0)
Row = NDArray[np.float32]


def row_of(*values: float) -> Row:
    return np.array(values, np.float32)


def gumbel_row(n: int, seed: int = 0) -> Row:
    return (np.random.default_rng(seed).gumbel(size=n) * 2).astype(np.float32)


def reference(logits: Row, params: SamplingParams, prompt: list[int], given: list[int]) -> Row:
    """The distribution that the documented order gives, by full sorts."""
    x = logits.copy()
    for token, bias in params.logit_bias:
        x[token] += np.float32(bias)
    for token in set([*prompt, *given][-params.repeat_last_n :]):
        p = params.repeat_penalty
        x[token] = x[token] / p if x[token] > 0 else x[token] * p
    for token in set(given):
        x[token] -= np.float32(given.count(token)) * np.float32(params.frequency_penalty)
        x[token] -= np.float32(params.presence_penalty)
    order = sorted(range(x.size), key=lambda i: (-x[i], i))
    best = x[order[0]]
    if params.top_k:
        order = order[: params.top_k]
    weight = {i: float(np.exp(x[i] - best)) for i in order}
    order.sort(key=lambda i: (-weight[i], i))
    if params.top_p < 1:
        wanted = params.top_p * math.fsum(weight.values())
        n_below = sum(total < wanted for total in itertools.accumulate(weight[i] for i in order))
        order = order[: n_below + 1]
    order = [i for i in order if not params.min_p or x[i] >= best + math.log(params.min_p)]
    out = np.zeros(x.size, np.float64)
    if params.temperature == 0:
        out[order[0]] = 1
    else:
        out[order] = np.exp((x[order].astype(np.float64) - best) / params.temperature)
    distribution: Row = (out / out.sum()).astype(np.float32)
    return distribution


@st.composite
def params_for(draw: st.DrawFn, n: int) -> SamplingParams:
    token = st.integers(0, n - 1)
    return SamplingParams(
        temperature=draw(st.sampled_from([0.0, 0.3, 1.0, 2.0])),
        top_k=draw(st.sampled_from([0, 1, 2, 7, n - 1, n, n + 5])),
        top_p=draw(st.sampled_from([0.0, 0.11, 0.5, 0.93, 1.0])),
        min_p=draw(st.sampled_from([0.0, 0.07, 0.61, 1.0])),
        frequency_penalty=draw(st.sampled_from([0.0, -0.75, 1.25])),
        presence_penalty=draw(st.sampled_from([0.0, 0.5])),
        repeat_penalty=draw(st.sampled_from([1.0, 2.0, 0.5])),
        repeat_last_n=draw(st.sampled_from([0, 3, 64])),
        logit_bias=tuple(
            draw(st.dictionaries(token, st.sampled_from([-3.0, 2.0])).map(dict.items))
        ),
        seed=draw(st.integers(0, 2**63 - 1)),
    )


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_sample_draws_from_the_documented_distribution(data: st.DataObject) -> None:
    n = data.draw(st.sampled_from([2, 5, 40, 300]))
    grid = st.integers(-24, 24).map(lambda v: v / 8)
    logits = np.array(data.draw(st.lists(grid, min_size=n, max_size=n)), np.float32)
    params = data.draw(params_for(n))
    tokens = st.lists(st.integers(0, n - 1), max_size=8)
    prompt, given_tokens = data.draw(tokens), data.draw(tokens)
    used = replace(params, repeat_penalty=1.0) if params.repeat_last_n == 0 else params
    sampler = Sampler(params, prompt)
    for token in given_tokens:
        sampler.accept(token)
    before = logits.copy()
    token = sampler.sample(logits, 17).token
    assert (logits == before).all()
    expected = reference(logits, used, prompt, given_tokens)
    assert expected[token] > 0
    running = np.cumsum(expected, dtype=np.float64)
    u = chance(params.seed, 17)
    if params.temperature and params.top_k != 1:
        assert running[token] - expected[token] - 1e-5 <= u <= running[token] + 1e-5


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 5000),
    st.integers(0, 700),
    st.integers(0, 10**6),
    st.sampled_from([1.0, 8.0, 1e6]),
)
def test_best_tokens_is_a_stable_sort(n: int, k: int, seed: int, grain: float) -> None:
    noise = np.random.default_rng(seed).normal(size=n) * grain
    row = (np.round(noise) / grain).astype(np.float32)
    expected = sorted(range(n), key=lambda i: (-row[i], i))[:k]
    assert best_tokens(row, k).tolist() == expected


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(),
        SamplingParams(temperature=0.6),
        SamplingParams(top_k=12),
        SamplingParams(top_p=0.8, temperature=1.5),
        SamplingParams(min_p=0.1),
    ],
)
def test_frequencies_fit_by_chi_square(params: SamplingParams) -> None:
    logits = gumbel_row(2500, seed=3)
    expected = reference(logits, params, [], [])
    n = 4000
    seen = np.zeros(logits.size)
    for position in range(n):
        seen[Sampler(replace(params, seed=99)).sample(logits, position).token] += 1
    assert not seen[expected == 0].any()
    common = expected * n >= 8
    wanted = np.append(expected[common], expected[~common].sum()) * n
    counts = np.append(seen[common], seen[~common].sum())
    used = wanted > 0
    chi_square = float((((counts - wanted) ** 2)[used] / wanted[used]).sum())
    freedom = int(used.sum()) - 1
    # Five standard deviations of the distribution's own spread.
    assert chi_square < freedom + 5 * math.sqrt(2 * freedom)


def test_chance_is_even_and_fixed() -> None:
    assert chance(0, 0) == chance(0, 0)
    values = np.array([chance(s, p) for s in range(40) for p in range(250)])
    assert ((values >= 0) & (values < 1)).all()
    assert len(set(values)) == values.size
    counts = np.histogram(values, bins=20, range=(0, 1))[0]
    assert ((counts - 500) ** 2 / 500).sum() < 19 + 5 * math.sqrt(38)
    assert chance(7, 3) != chance(3, 7)
    assert chance(-1, 0) == chance(2**64 - 1, 0)


def test_a_draw_depends_on_seed_and_position_alone() -> None:
    logits = gumbel_row(1000)
    params = SamplingParams(seed=5)
    one, other = Sampler(params, [1, 2, 3]), Sampler(params)
    tokens = []
    for position in range(40):
        tokens.append(one.sample(logits, position).token)
        one.accept(tokens[-1])
    again = [other.sample(logits, position).token for position in reversed(range(40))]
    assert again[::-1] == tokens
    elsewhere = Sampler(replace(params, seed=6))
    assert [elsewhere.sample(logits, p).token for p in range(40)] != tokens


def test_greedy_takes_the_first_of_equals() -> None:
    logits = row_of(1, 3, 3, 2)
    assert Sampler(GREEDY).sample(logits, 0).token == 1
    assert Sampler(SamplingParams(temperature=1e-7)).sample(logits, 0).token == 1
    for position in range(20):
        assert Sampler(SamplingParams(top_k=1)).sample(logits, position).token == 1
        assert Sampler(SamplingParams(top_p=0.0)).sample(logits, position).token == 1


def test_bias_forces_and_bans() -> None:
    logits = gumbel_row(500)
    best = int(logits.argmax())
    banned = SamplingParams(logit_bias=((best, -100.0),))
    assert best not in {Sampler(banned).sample(logits, p).token for p in range(200)}
    forced = SamplingParams(logit_bias=((123, 100.0),))
    assert {Sampler(forced).sample(logits, p).token for p in range(50)} == {123}


def test_a_bias_outside_the_vocabulary_is_refused() -> None:
    for token in (4, -1):
        sampler = Sampler(SamplingParams(logit_bias=((token, 1.0),)))
        with pytest.raises(BadRequest, match="vocabulary of 4") as caught:
            sampler.sample(row_of(1, 2, 3, 4), 0)
        assert caught.value.param == "logit_bias"


def test_frequency_counts_and_presence_does_not() -> None:
    logits = row_of(1.0, 0.0)
    frequency = Sampler(replace(GREEDY, frequency_penalty=0.4), [0, 0, 0, 0])
    chosen = []
    for position in range(5):
        chosen.append(frequency.sample(logits, position).token)
        frequency.accept(chosen[-1])
    assert chosen == [0, 0, 0, 1, 0], "the prompt does not count; each of ours does"
    presence = Sampler(replace(GREEDY, presence_penalty=0.4))
    for _ in range(9):
        presence.accept(0)
    assert presence.sample(logits, 9).token == 0


def test_many_different_tokens_are_counted() -> None:
    sampler = Sampler(replace(GREEDY, presence_penalty=2.0))
    for token in range(400):
        sampler.accept(token)
    logits = np.ones(401, np.float32)
    assert sampler.sample(logits, 0).token == 400


def test_repeat_looks_at_the_last_n_of_prompt_and_answer() -> None:
    params = replace(GREEDY, repeat_penalty=2.0, repeat_last_n=2)
    sampler = Sampler(params, [0, 1])
    logits = row_of(1.0, 0.9, 0.8)
    assert sampler.sample(logits, 0).token == 2
    sampler.accept(2)
    assert sampler.sample(logits, 1).token == 0, "token 0 is three back"
    negative = Sampler(params, [1])
    assert negative.sample(row_of(-1.1, -1.0), 0).token == 0, "a negative logit sinks"
    off = Sampler(replace(params, repeat_last_n=0), [0, 1])
    assert off.sample(logits, 0).token == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 700, 1999])
def test_bad_logits_are_an_engine_fault(bad: float, place: int) -> None:
    logits = gumbel_row(2000)
    logits[place] = bad
    for params in (GREEDY, SamplingParams(), SamplingParams(top_k=5, logprobs=3)):
        with pytest.raises(EngineFault, match="NaN or infinity"):
            Sampler(params).sample(logits, 0)


def test_extreme_logits_and_settings_stay_numbers() -> None:
    logits = row_of(3e38, -3e38, 0, 2e38)
    for params in itertools.starmap(
        lambda t, p, b: SamplingParams(
            temperature=t, top_p=p, repeat_penalty=b, logit_bias=((2, 1e300),), logprobs=2
        ),
        itertools.product((1e-5, 1.0, 2.0), (1.0, 0.9), (1e-300, 1.0, 10.0)),
    ):
        choice = Sampler(params, [0, 1]).sample(logits, 0)
        assert 0 <= choice.token < 4
        assert choice.logprob is not None
        assert not math.isnan(choice.logprob)


def test_logprobs_are_the_models_own() -> None:
    logits = gumbel_row(3000)
    exact = logits - np.log(np.exp(logits.astype(np.float64)).sum())
    params = SamplingParams(
        temperature=0.5, top_k=3, logit_bias=((7, 50.0),), logprobs=4, frequency_penalty=2.0
    )
    choice = Sampler(params).sample(logits, 0)
    assert choice.token == 7
    assert choice.logprob == pytest.approx(exact[7], abs=1e-4)
    order = np.argsort(-logits, kind="stable")[:4]
    assert [token for token, _ in choice.top] == order.tolist()
    assert [p for _, p in choice.top] == pytest.approx(exact[order].tolist(), abs=1e-4)
    chosen_only = Sampler(replace(params, logprobs=0)).sample(logits, 0)
    assert chosen_only.top == ()
    assert chosen_only.logprob == choice.logprob
    none = Sampler(replace(params, logprobs=None)).sample(logits, 0)
    assert none.logprob is None
    assert none.top == ()


def test_weights_whose_block_sum_is_rounded_up_still_give_a_place() -> None:
    weights = np.zeros(600, np.float32)
    weights[[3, 100, 300]] = (1.0, 3e-8, 1.0)
    assert sampling._pick(weights, 0.0) == 3
    assert sampling._pick(weights, math.nextafter(1, 0)) == 300
    for u in np.linspace(0, 1, 200, endpoint=False):
        assert weights[sampling._pick(weights, float(u))] > 0


@pytest.mark.alone
def test_sampling_is_fast_enough_to_hide() -> None:
    logits = gumbel_row(49_152)
    for params, most_us in (
        (GREEDY, 200),
        (SamplingParams(top_k=40, top_p=0.95, min_p=0.05, temperature=0.8), 1000),
        (SamplingParams(top_p=0.95), 2000),
    ):
        sampler = Sampler(params)
        times = []
        for position in range(50):
            start = time.perf_counter()
            sampler.sample(logits, position)
            times.append(time.perf_counter() - start)
        # Ten times what an idle machine needs, as tests run on busy ones.
        assert min(times) * 1e6 < most_us
