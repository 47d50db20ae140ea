"""Both ends of the ring on a model that is nothing but ends: one layer each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests.support.cut_models import cut, rescale

from atoll.domain.errors import BadModel
from atoll.domain.generation import GenerateRequest, Sampled, SamplingParams
from atoll.domain.wire import F16_SCALED, F32, row_bytes
from atoll.engine.ends import EndsEngine
from atoll.engine.ends_messages import EndsOptions, Head, ItemResult, Tail
from atoll.engine.whole import WholeModel
from atoll.model.architectures import TABLE
from atoll.model.gguf import open_gguf

pytestmark = pytest.mark.engine

GREEDY = SamplingParams(temperature=0.0)
EOS = 2
WIDTH = 64
PROMPTS = ((1, 260, 40, 77, 9), (1, 5, 6, 7, 8, 100, 200), (1, 30, 90))


@dataclass
class Ends:
    """An engine and the model it was cut from."""

    engine: EndsEngine
    options: EndsOptions

    def run(self, items: Sequence[Head | Tail], *payloads: bytes) -> list[ItemResult]:
        return self.run_all(items, *payloads)[0]

    def run_all(
        self, items: Sequence[Head | Tail], *payloads: bytes
    ) -> tuple[list[ItemResult], list[bytes]]:
        results, outputs, engine_s = self.engine.run(items, b"".join(payloads))
        assert engine_s >= 0
        assert [result.size for result in results] == [len(output) for output in outputs]
        return results, outputs

    def open(
        self,
        slot: int,
        prompt: tuple[int, ...],
        sampling: SamplingParams,
        *,
        ignore_eos: bool = False,
    ) -> None:
        self.engine.open(slot, GenerateRequest(prompt, 100, sampling, ignore_eos=ignore_eos))

    def head(self, slot: int, tokens: tuple[int, ...], keep: int = 0) -> bytes:
        results, outputs = self.run_all([Head(slot, keep, True, F32, tokens)])
        assert results[0].problem == ""
        return outputs[0]


@pytest.fixture(scope="module")
def model(random_model: Callable[..., Path]) -> Path:
    return random_model("llama", n_layers=2)


def make_ends(model: Path, folder: Path, **more: int) -> Ends:
    head, tail = cut(model, [0, 1, 2], folder)
    options = EndsOptions(
        model=str(model),
        head=str(head),
        tail=str(tail),
        n_slots=4,
        context=128,
        rows_max=64,
        threads=1,
        threads_large=1,
        **more,  # type: ignore[arg-type]
    )
    return Ends(EndsEngine(options), options)


@pytest.fixture
def ends(model: Path, tmp_path: Path) -> Ends:
    return make_ends(model, tmp_path)


@pytest.fixture
def whole(model: Path) -> Iterator[WholeModel]:
    found = WholeModel(model, n_slots=4, context=128, threads=1, rows_max=64)
    yield found
    found.close()


def tail(slot: int, keep: int, rows: int, *, encoding: str = F32, **changes: bool) -> Tail:
    item = Tail(slot, keep, True, encoding, rows, sample=True, chain=True, last=False)
    return msgspec.structs.replace(item, **changes) if changes else item


def generate(
    ends: Ends, slots: Sequence[int], prompts: Sequence[tuple[int, ...]], n: int, encoding: str
) -> list[list[Sampled]]:
    """`n` tokens for every slot, all slots in each batch, no stages between the ends."""
    _, windows = ends.run_all(
        [Head(slot, 0, True, encoding, prompt) for slot, prompt in zip(slots, prompts, strict=True)]
    )
    out: list[list[Sampled]] = [[] for _ in slots]
    keeps, rows = [0] * len(slots), [len(prompt) for prompt in prompts]
    for step in range(n):
        items = [
            tail(slot, keep, count, encoding=encoding, last=step == n - 1)
            for slot, keep, count in zip(slots, keeps, rows, strict=True)
        ]
        results, windows = ends.run_all(items, *windows)
        for i, result in enumerate(results):
            assert result.problem == ""
            assert result.sampled is not None
            out[i].append(result.sampled)
            keeps[i], rows[i] = keeps[i] + rows[i], 1
    return out


def ids(sampled: list[Sampled]) -> tuple[int, ...]:
    return tuple(one.token for one in sampled)


def test_head_and_tail_give_the_whole_models_tokens(ends: Ends, whole: WholeModel) -> None:
    expected = whole.greedy(PROMPTS, 20, exact=True, stop_at_end=False).tokens
    for slot, prompt in enumerate(PROMPTS):
        ends.open(slot, prompt, GREEDY, ignore_eos=True)
        found = generate(ends, [slot], [prompt], 20, F32)[0]
        assert ids(found) == expected[slot]
        assert [one.finish for one in found] == [None] * 19 + ["length"]


@pytest.mark.parametrize("architecture", TABLE)
@pytest.mark.parametrize("tied", [True, False])
def test_the_ends_of_every_architecture(
    random_model: Callable[..., Path], tmp_path: Path, architecture: str, tied: bool
) -> None:
    """Scaled embeddings, heads with and without a table of their own, a bias, a soft cap."""
    has_head = bool(TABLE[architecture].last_shard)
    bias = architecture == "qwen2"
    path = random_model(architecture, n_layers=2, tied=tied or not has_head, output_bias=bias)
    whole = WholeModel(path, n_slots=4, context=128, threads=1, rows_max=64)
    expected = whole.greedy(PROMPTS, 20, exact=True, stop_at_end=False).tokens
    whole.close()
    found = make_ends(path, tmp_path)
    for slot, prompt in enumerate(PROMPTS):
        found.open(slot, prompt, GREEDY, ignore_eos=True)
        assert ids(generate(found, [slot], [prompt], 20, F32)[0]) == expected[slot]
    assert len(set(expected)) == len(PROMPTS)


def test_sessions_in_one_batch_do_not_touch_each_other(ends: Ends) -> None:
    """Each with its own sampler, alone and then together in another order of slots."""
    params = [
        SamplingParams(temperature=1.0, seed=7),
        SamplingParams(temperature=0.8, top_k=20, seed=8, repeat_penalty=1.2),
        GREEDY,
    ]
    alone = []
    for prompt, sampling in zip(PROMPTS, params, strict=True):
        ends.open(0, prompt, sampling, ignore_eos=True)
        alone.append(ids(generate(ends, [0], [prompt], 15, F32)[0]))
    slots = [3, 0, 2]
    for slot, prompt, sampling in zip(slots, PROMPTS, params, strict=True):
        ends.open(slot, prompt, sampling, ignore_eos=True)
    together = generate(ends, slots, PROMPTS, 15, F32)
    assert [ids(found) for found in together] == alone
    assert len(set(alone)) == 3


def test_a_prompt_may_come_in_windows(ends: Ends, whole: WholeModel) -> None:
    prompt = PROMPTS[1]
    ends.open(1, prompt, GREEDY, ignore_eos=True)
    first = ends.head(1, prompt[:4])
    second = ends.head(1, prompt[4:], keep=4)
    quiet = ends.run([tail(1, 0, 4, sample=False, chain=False)], first)[0]
    assert quiet == ItemResult()
    result = ends.run([tail(1, 4, 3)], second)[0]
    assert result.sampled is not None
    assert result.sampled.token == whole.greedy([prompt], 1, stop_at_end=False).tokens[0][0]


def test_halves_on_the_wire_work_as_well(ends: Ends) -> None:
    ends.open(0, PROMPTS[0], GREEDY, ignore_eos=True)
    found = generate(ends, [0], [PROMPTS[0]], 6, F16_SCALED)[0]
    assert len(found) == 6
    _, outputs = ends.run_all([Head(2, 0, False, F16_SCALED, PROMPTS[0])])
    assert len(outputs[0]) == 5 * row_bytes(F16_SCALED, WIDTH)


def ending() -> SamplingParams:
    """Always chooses the end-of-generation token."""
    return SamplingParams(temperature=0.0, logit_bias=((EOS, 1e9),))


def test_an_end_token_stops_and_is_not_shown(ends: Ends) -> None:
    ends.open(0, PROMPTS[0], ending())
    window = ends.head(0, PROMPTS[0])
    for last in (False, True):
        results, outputs = ends.run_all([tail(0, 0, 5, last=last)], window)
        assert results[0].sampled == Sampled(EOS, b"", "stop")
        assert outputs == [b""]


def test_an_end_token_may_be_ignored(ends: Ends) -> None:
    ends.open(0, PROMPTS[0], ending(), ignore_eos=True)
    window = ends.head(0, PROMPTS[0])
    results, outputs = ends.run_all([tail(0, 0, 5)], window)
    assert results[0].sampled == Sampled(EOS, b"", None)
    assert len(outputs[0]) == row_bytes(F32, WIDTH)


def test_the_last_token_ends_by_length_and_goes_no_further(ends: Ends) -> None:
    ends.open(0, PROMPTS[0], GREEDY, ignore_eos=True)
    window = ends.head(0, PROMPTS[0])
    results, outputs = ends.run_all([tail(0, 0, 5, last=True)], window)
    assert results[0].sampled is not None
    assert results[0].sampled.finish == "length"
    assert outputs == [b""]


def test_without_chain_a_token_is_sampled_and_stays(ends: Ends) -> None:
    ends.open(0, PROMPTS[0], GREEDY)
    results, outputs = ends.run_all([tail(0, 0, 5, chain=False)], ends.head(0, PROMPTS[0]))
    assert results[0].sampled is not None
    assert outputs == [b""]


def test_the_chained_window_is_what_the_head_gives_for_the_token(ends: Ends) -> None:
    ends.open(0, PROMPTS[0], GREEDY, ignore_eos=True)
    window = ends.head(0, PROMPTS[0])
    results, outputs = ends.run_all([tail(0, 0, 5)], window)
    assert results[0].sampled is not None
    assert ends.head(0, (results[0].sampled.token,), keep=5) == outputs[0]


def test_log_probabilities_come_with_their_pieces(ends: Ends) -> None:
    params = SamplingParams(temperature=0.0, logprobs=290)
    ends.open(0, PROMPTS[0], params, ignore_eos=True)
    sampled = ends.run([tail(0, 0, 5)], ends.head(0, PROMPTS[0]))[0].sampled
    assert sampled is not None
    assert len(sampled.top) == 290
    assert sampled.top[0].token == sampled.token
    assert sampled.top[0].logprob == sampled.logprob
    values = [one.logprob for one in sampled.top]
    assert values == sorted(values, reverse=True)
    assert np.exp(values).sum() == pytest.approx(1, abs=0.05)
    pieces = {one.token: one.piece for one in sampled.top}
    assert pieces[3 + 0xC3] == b"\xc3"
    assert pieces.get(EOS, b"</s>") == b"</s>"
    assert pieces.get(1, b"<s>") == b"<s>"


def test_without_being_asked_no_log_probabilities_come(ends: Ends) -> None:
    ends.open(0, PROMPTS[0], GREEDY)
    sampled = ends.run([tail(0, 0, 5)], ends.head(0, PROMPTS[0]))[0].sampled
    assert sampled is not None
    assert (sampled.logprob, sampled.top) == (None, ())


def test_a_session_that_is_not_open_is_a_problem_of_its_own(ends: Ends) -> None:
    ends.open(1, PROMPTS[0], GREEDY, ignore_eos=True)
    windows = [ends.head(slot, PROMPTS[0]) for slot in (0, 1)]
    closed, opened = ends.run([tail(0, 0, 5), tail(1, 0, 5)], *windows)
    assert closed == ItemResult("no session is open in slot 0")
    assert opened.problem == ""
    assert opened.sampled is not None


def test_a_closed_session_is_forgotten(ends: Ends) -> None:
    ends.open(0, PROMPTS[0], GREEDY)
    window = ends.head(0, PROMPTS[0])
    ends.run([tail(0, 0, 5)], window)
    ends.engine.close(0)
    ends.engine.close(0)
    assert "no session is open" in ends.run([tail(0, 0, 5)], window)[0].problem
    gone = ends.run([Head(0, 5, True, F32, (9,))])[0]
    assert "slot 0 holds 0 positions, not 5" in gone.problem


@pytest.mark.parametrize("bad", [-1, 10_000, 2**40])
def test_a_token_outside_the_vocabulary_is_a_problem_of_its_own(ends: Ends, bad: int) -> None:
    """The other prompt is as long and in the next slot, so that both share a call."""
    expected = ends.head(1, PROMPTS[0])
    items = [Head(0, 0, True, F32, (1, 2, bad, 4, 5)), Head(1, 0, True, F32, PROMPTS[0])]
    results, outputs = ends.run_all(items)
    assert f"token id {bad} is outside the vocabulary" in results[0].problem
    assert outputs[0] == b""
    assert results[1].problem == ""
    values = [np.frombuffer(window, "<f4") for window in (outputs[1], expected)]
    assert np.allclose(values[0], values[1], atol=0.1)


def test_a_bias_outside_the_vocabulary_is_a_problem_of_its_own(ends: Ends) -> None:
    ends.open(0, PROMPTS[0], SamplingParams(logit_bias=((99_999, 1.0),)))
    ends.open(1, PROMPTS[0], GREEDY, ignore_eos=True)
    windows = [ends.head(slot, PROMPTS[0]) for slot in (0, 1)]
    bad, good = ends.run([tail(0, 0, 5), tail(1, 0, 5)], *windows)
    assert "logit_bias" in bad.problem
    assert bad.sampled is None
    assert good.sampled is not None


def test_a_window_with_nan_is_a_problem_of_its_own(ends: Ends) -> None:
    for slot in (0, 1):
        ends.open(slot, PROMPTS[0], GREEDY, ignore_eos=True)
    windows = [ends.head(slot, PROMPTS[0]) for slot in (0, 1)]
    right = ends.run([tail(1, 0, 5)], windows[1])[0].sampled
    poisoned = np.frombuffer(windows[0], "<f4").copy()
    poisoned[-7] = np.nan
    bad, good = ends.run([tail(0, 0, 5), tail(1, 0, 5)], poisoned.tobytes(), windows[1])
    assert "NaN or infinity" in bad.problem
    assert bad.sampled is None
    assert good.sampled == right
    again = ends.run([tail(0, 0, 5)], windows[0])[0]
    assert again.sampled == right


@pytest.fixture
def large(random_model: Callable[..., Path], tmp_path: Path) -> EndsOptions:
    """Windows of 64 rows and more, which bring forgotten cells into reach; a tail of two layers."""
    model = random_model("llama", n_layers=3)
    head, last = cut(model, [0, 1, 3], tmp_path)
    return EndsOptions(
        model=str(model),
        head=str(head),
        tail=str(last),
        n_slots=2,
        context=128,
        rows_max=128,
        threads=1,
        threads_large=1,
    )


LONG = tuple(3 + i for i in range(100))
SHORTER = LONG[:80]


def prompt_window(ends: Ends, tokens: tuple[int, ...]) -> tuple[str, bytes]:
    """The problem and the window of a new session's prompt; the session ends."""
    results, outputs = ends.run_all([Head(0, 0, False, F32, tokens)])
    ends.engine.close(0)
    return results[0].problem, outputs[0]


def first_token(ends: Ends, window: bytes) -> ItemResult:
    """What a new session's prompt gives, coming in one window; the session ends."""
    ends.open(0, LONG, SamplingParams(temperature=0.0, logprobs=5), ignore_eos=True)
    item = Tail(0, 0, False, F32, len(window) // (4 * WIDTH), sample=True, chain=False, last=False)
    result = ends.run([item], window)[0]
    ends.engine.close(0)
    return result


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_a_window_that_is_not_finite_spoils_no_later_session(
    large: EndsOptions, bad: float
) -> None:
    ends = Ends(EndsEngine(large), large)
    window = prompt_window(ends, SHORTER)[1]
    expected = first_token(ends, window)
    assert expected.problem == ""
    poisoned = np.frombuffer(prompt_window(ends, LONG)[1], "<f4").copy()
    poisoned[99 * WIDTH + 3] = bad
    assert first_token(ends, poisoned.tobytes()).problem == "the window holds NaN or infinity"
    assert [first_token(ends, window) for _ in range(2)] == [expected] * 2


def test_nan_that_arises_in_the_first_layers_spoils_no_later_session(
    large: EndsOptions, tmp_path: Path
) -> None:
    """Of a token whose embedding is NaN."""
    embedding = open_gguf(Path(large.model)).tensor("token_embd.weight")
    data = bytearray(Path(large.model).read_bytes())
    np.frombuffer(data, "<f4", WIDTH, embedding.offset + 280 * WIDTH * 4)[:] = np.nan
    (tmp_path / "damaged.gguf").write_bytes(data)
    damaged = msgspec.structs.replace(large, model=str(tmp_path / "damaged.gguf"))
    ends = Ends(EndsEngine(damaged), damaged)
    expected = prompt_window(ends, SHORTER)
    assert expected[0] == ""
    assert "no usable numbers" in prompt_window(ends, (*LONG[:-1], 280))[0]
    assert prompt_window(ends, SHORTER) == expected


def test_nan_that_arises_in_the_last_layers_spoils_no_later_session(
    large: EndsOptions, tmp_path: Path
) -> None:
    """A layer that overflows with ordinary windows, and not with tiny ones."""
    path = rescale(Path(large.tail), "blk.0.ffn_down.weight", 1e38, tmp_path / "hot.gguf")
    hot = msgspec.structs.replace(large, tail=str(path))
    ends = Ends(EndsEngine(hot), hot)
    ordinary, shorter = prompt_window(ends, LONG)[1], prompt_window(ends, SHORTER)[1]
    tiny = (np.frombuffer(shorter, "<f4") * np.float32(1e-12)).tobytes()
    expected = first_token(ends, tiny)
    assert expected.problem == ""
    assert "NaN or infinity" in first_token(ends, ordinary).problem
    assert first_token(ends, tiny) == expected


def test_positions_that_do_not_continue_are_a_problem(ends: Ends) -> None:
    ends.open(0, PROMPTS[0], GREEDY)
    window = ends.head(0, PROMPTS[0])
    assert "slot 0 holds 0 positions, not 3" in ends.run([tail(0, 3, 5)], window)[0].problem
    assert ends.run([tail(0, 0, 5)], window)[0].problem == ""


def test_gaps_are_problems_of_their_own(ends: Ends) -> None:
    """In heads and in tails, each beside a sound one that would share its call."""
    ends.open(1, PROMPTS[0], GREEDY, ignore_eos=True)
    heads: list[Head | Tail] = [
        Head(0, 4, True, F32, PROMPTS[0]),
        Head(1, 0, True, F32, PROMPTS[0]),
    ]
    results, outputs = ends.run_all(heads)
    assert [result.problem for result in results] == ["slot 0 holds 0 positions, not 4", ""]
    bad, good = ends.run([tail(0, 4, 5), tail(1, 0, 5)], outputs[1], outputs[1])
    assert bad == ItemResult("slot 0 holds 0 positions, not 4")
    assert good.sampled is not None


def test_heads_and_tails_exact_and_not_share_a_batch(ends: Ends) -> None:
    ends.open(2, PROMPTS[2], GREEDY, ignore_eos=True)
    window = ends.head(2, PROMPTS[2])
    items: list[Head | Tail] = [
        Head(0, 0, False, F16_SCALED, PROMPTS[0]),
        tail(2, 0, 3),
        Head(1, 0, True, F32, PROMPTS[1]),
    ]
    results, outputs = ends.run_all(items, window)
    assert [result.problem for result in results] == ["", "", ""]
    assert [result.sampled is None for result in results] == [True, False, True]
    sizes = [5 * row_bytes(F16_SCALED, WIDTH), row_bytes(F32, WIDTH), 7 * row_bytes(F32, WIDTH)]
    assert [len(output) for output in outputs] == sizes


def test_an_empty_batch_is_nothing(ends: Ends) -> None:
    assert ends.run([]) == []


def test_files_that_are_no_models_are_refused(ends: Ends, tmp_path: Path) -> None:
    junk = tmp_path / "junk.gguf"
    junk.write_bytes(b"junk" * 100)
    for field in ("model", "head", "tail"):
        with pytest.raises(BadModel):
            EndsEngine(msgspec.structs.replace(ends.options, **{field: str(junk)}))


@pytest.mark.parametrize("right", [0, 1, 2, 3])
def test_guesses_are_accepted_up_to_the_first_wrong_one(
    guessing: Ends, whole: WholeModel, right: int
) -> None:
    """What is sampled is what would be without guesses, and a rollback leaves no trace."""
    prompt = PROMPTS[0]
    [expected] = whole.greedy([prompt], 8, exact=True, stop_at_end=False).tokens
    n = len(prompt)
    guessing.open(0, prompt, GREEDY, ignore_eos=True)
    [first] = guessing.run([tail(0, 0, n, chain=False)], guessing.head(0, prompt))
    assert first.sampled is not None
    assert first.sampled.token == expected[0]
    guesses = [token if i < right else token + 1 for i, token in enumerate(expected[1:4])]
    window = guessing.head(0, (expected[0], *guesses), keep=n)
    item = msgspec.structs.replace(tail(0, n, 4, chain=False), checked=4, guesses=tuple(guesses))
    [result] = guessing.run([item], window)
    assert result.sampled is not None
    found = [*ids(list(result.accepted)), result.sampled.token]
    assert found == list(expected[1 : 2 + right])
    # On from the token that was not guessed.
    window = guessing.head(0, (found[-1],), keep=n + 1 + right)
    [after] = guessing.run([tail(0, n + 1 + right, 1, chain=False)], window)
    assert after.sampled is not None
    assert after.sampled.token == expected[2 + right]


def test_the_last_token_ends_a_window_with_guesses(guessing: Ends, whole: WholeModel) -> None:
    prompt = PROMPTS[0]
    [expected] = whole.greedy([prompt], 4, exact=True, stop_at_end=False).tokens
    guessing.open(0, prompt, GREEDY, ignore_eos=True)
    guessing.run([tail(0, 0, len(prompt), chain=False)], guessing.head(0, prompt))
    window = guessing.head(0, expected[:3], keep=len(prompt))
    item = msgspec.structs.replace(
        tail(0, len(prompt), 3, chain=False, last=True), checked=3, guesses=tuple(expected[1:3])
    )
    [result] = guessing.run([item], window)
    assert [one.finish for one in (*result.accepted, result.sampled) if one] == [
        None,
        None,
        "length",
    ]


@pytest.fixture
def guessing(model: Path, tmp_path: Path) -> Ends:
    """Ends that check up to four rows of a session in one call."""
    return make_ends(model, tmp_path, checked_max=4)
