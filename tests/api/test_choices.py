"""Choices: text and log-probabilities are shown and held back together."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.scripted import ScriptedBackend, fail, say

from atoll.api.choices import Choice, Deliver, Delta, first_cause, run_choices
from atoll.api.client import ClientGone
from atoll.api.narration import choices_of
from atoll.api.params import Job
from atoll.domain.errors import RingDown
from atoll.domain.generation import FinishReason, GenerateRequest, Sampled


def take(
    pieces: list[bytes], stops: list[str], last: FinishReason = "length"
) -> tuple[str, list[bytes], Choice]:
    """Text and pieces that were shown."""
    choice = Choice(0, stops, logprobs=True)
    text, shown = "", []
    for index, piece in enumerate(pieces):
        finish = last if index + 1 == len(pieces) else None
        delta = choice.take(Sampled(index, piece, finish, -1.0))
        text += delta.text
        shown += [entry.sampled.piece for entry in delta.entries]
        if choice.finish:
            break
    return text, shown, choice


def test_tokens_of_a_stop_string_are_not_shown() -> None:
    text, shown, choice = take([b"one", b" <", b"end", b">", b" two"], [" <end>"])
    assert (text, shown) == ("one", [b"one"])
    assert (choice.finish, choice.n_tokens) == ("stop", 4)


def test_tokens_of_a_false_start_are_shown_after_all() -> None:
    text, shown, choice = take([b"one", b" <", b"else"], [" <end>"])
    assert (text, shown) == ("one <else", [b"one", b" <", b"else"])
    assert choice.finish == "length"


def test_tokens_of_one_character_are_shown_together() -> None:
    choice = Choice(0, (), logprobs=True)
    first, second = "é".encode()[:1], "é".encode()[1:]
    assert choice.take(Sampled(1, first, None, -1.0)) == Delta("")
    delta = choice.take(Sampled(2, second, None, -1.0))
    assert delta.text == "é"
    assert [(entry.sampled.piece, entry.start) for entry in delta.entries] == [
        (first, 0),
        (second, 0),
    ]


def test_the_end_of_generation_token_is_counted_but_not_shown() -> None:
    text, shown, choice = take([b"one", b""], [], last="stop")
    assert (text, shown) == ("one", [b"one"])
    assert (choice.finish, choice.n_tokens) == ("stop", 2)


def test_a_stop_string_in_the_last_token_is_a_stop() -> None:
    text, _, choice = take([b"one", b" two"], ["wo"], last="length")
    assert (text, choice.finish) == ("one t", "stop")


def test_what_was_held_back_comes_at_the_end() -> None:
    text, shown, _ = take([b"one", b" <e"], [" <end>"], last="length")
    assert (text, shown) == ("one <e", [b"one", b" <e"])


@given(
    pieces=st.lists(st.binary(max_size=4), min_size=1, max_size=12),
    stops=st.lists(st.text(alphabet="ab", min_size=1, max_size=3), max_size=3),
)
def test_entries_are_the_tokens_that_start_in_the_shown_text(
    pieces: list[bytes], stops: list[str]
) -> None:
    text, shown, choice = take(pieces, stops)
    consumed = pieces[: choice.n_tokens]
    assert shown == consumed[: len(shown)]
    if choice.finish == "length":
        assert shown == consumed
        assert text == b"".join(pieces).decode(errors="replace")


def job(n: int, stops: tuple[str, ...] = ()) -> Job:
    return Job(
        id="id",
        created=0,
        requests=(GenerateRequest(prompt=(1,), max_tokens=50),) * n,
        stops=stops,
        prompt_tokens=1,
        stream=False,
        include_usage=False,
        logprobs=False,
    )


def nowhere(job: Job) -> Deliver:
    """Takes tokens into choices that nobody reads."""
    choices = choices_of(job)

    async def deliver(index: int, sampled: Sampled) -> bool:
        return choices[index].take(sampled).finish is not None

    return deliver


async def run(backend: ScriptedBackend, job: Job) -> None:
    await run_choices(backend, dict(enumerate(job.requests)), nowhere(job))


async def test_a_stop_string_closes_the_generation_at_once() -> None:
    backend = ScriptedBackend(say("one", " two", " three", " four"))
    await run(backend, job(1, (" two",)))
    assert (backend.yielded, backend.open) == (2, 0)


async def test_one_failure_closes_all_generations() -> None:
    backend = ScriptedBackend(fail(RingDown("gone"), "a"))
    with pytest.raises(RingDown):
        await run(backend, job(3))
    assert backend.open == 0
    assert backend.closed >= 1


async def test_cancelling_closes_all_generations() -> None:
    backend = ScriptedBackend()
    stuck = asyncio.Event()

    async def deliver(_index: int, _sampled: Sampled) -> bool:
        await stuck.wait()
        return False

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await run_choices(backend, dict(enumerate(job(3).requests)), deliver)
    assert (backend.open, backend.closed) == (0, 3)


async def test_a_generation_without_an_end_is_our_mistake() -> None:
    backend = ScriptedBackend(say("one", finish=None))  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="without a finish"):
        await run(backend, job(1))


def test_a_client_that_left_explains_all_else() -> None:
    gone = ClientGone()
    group = ExceptionGroup("", [ExceptionGroup("", [RingDown("x")]), ExceptionGroup("", [gone])])
    assert first_cause(group) is gone
