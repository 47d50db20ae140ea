"""Events as a function of tokens: their numbers, and every place to go on from."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st
from tests.api.test_journal import JOB
from tests.support.scripted import ScriptedBackend

from atoll.api.chat import ChatForm
from atoll.api.completions import CompletionForm
from atoll.api.form import Form
from atoll.api.journal import Token
from atoll.api.narration import Narration, catch_up, choices_of, usage_of, what_is_left
from atoll.api.params import Job
from atoll.domain.generation import Sampled

PIECES = [b" the", b"\xc3", b"\xa9", b"st", b"op", b"", b"\n", b"sto"]


def form_of(job: Job, name: str) -> Form:
    kind = ChatForm if name == "chat" else CompletionForm
    return kind(job, ScriptedBackend().card, "test")


def job_of(n: int, **changes: object) -> Job:
    job = replace(JOB, requests=JOB.requests[:1] * n, stops=("stop",))
    return replace(job, **changes)  # type: ignore[arg-type]


def interleaved(n: int, order: Sequence[int], pieces: Sequence[int]) -> list[Token]:
    """Tokens of `n` choices in some order; each choice's last has a finish."""
    names = [*(index % n for index in order), *range(n)]
    last = {index: place for place, index in enumerate(names)}
    return [
        Token.of(
            index,
            Sampled(
                place,
                PIECES[pieces[place % len(pieces)]],
                "length" if last[index] == place else None,
                -0.5,
            ),
        )
        for place, index in enumerate(names)
    ]


def told(narration: Narration, tokens: Iterable[Token]) -> bytes:
    """All events of tokens; those after a choice's stop string never come."""
    out = b""
    for token in tokens:
        if narration.choices[token.index].finish is None:
            out += narration.take(token.index, token.sampled)
    return out + narration.end()


def numbers(events: bytes) -> list[int]:
    return [int(line[4:]) for line in events.split(b"\n") if line.startswith(b"id: ")]


STREAMS = st.tuples(
    st.integers(1, 3),
    st.lists(st.integers(0, 5), max_size=12),
    st.lists(st.integers(0, len(PIECES) - 1), min_size=1, max_size=12),
    st.sampled_from(["chat", "text"]),
    st.booleans(),
    st.booleans(),
)


@given(STREAMS)
async def test_every_event_can_be_gone_on_from(
    stream: tuple[int, list[int], list[int], str, bool, bool],
) -> None:
    n, order, pieces, name, logprobs, usage = stream
    job = job_of(n, logprobs=logprobs, include_usage=usage)
    tokens = interleaved(n, order, pieces)
    counting = Narration(job, form_of(job, name))
    tokens = [t for t in tokens if counting.choices[t.index].finish is None and _took(counting, t)]
    whole = told(Narration(job, form_of(job, name)), tokens)
    events = whole.split(b"\n\n")[:-1]
    assert numbers(whole) == list(range(1, len(events) + 1))
    ends = list(accumulate(len(event) + 2 for event in events))
    for after in range(len(events) + 1):
        narration = Narration(job, form_of(job, name), after=after)
        rest = deque(tokens)
        edge = await catch_up(narration, rest)
        assert edge + told(narration, rest) == whole[ends[after - 1] if after else 0 :]


def _took(narration: Narration, token: Token) -> bool:
    narration.take(token.index, token.sampled)
    return True


async def test_a_client_that_is_ahead() -> None:
    job = job_of(1, logprobs=False, include_usage=False, stops=())
    narration = Narration(job, form_of(job, "text"), after=3)
    tokens = deque([Token.of(0, Sampled(1, b"a")), Token.of(0, Sampled(2, b"b"))])
    assert await catch_up(narration, tokens) == b""
    assert not tokens
    assert narration.take(0, Sampled(3, b"c")) == b""
    assert b'"text":"d"' in narration.take(0, Sampled(4, b"d"))


def test_what_is_left_goes_on_where_it_was() -> None:
    job = job_of(3, stops=())
    choices = choices_of(job)
    choices[0].take(Sampled(5, b"a", None, -1.0, (), cached=2))
    choices[0].take(Sampled(6, b"b", None, -1.0, (), cached=3))
    choices[2].take(Sampled(7, b"", "stop"))
    left = what_is_left(job, choices)
    assert {index: request.sampled for index, request in left.items()} == {0: (5, 6), 1: ()}
    assert all(replace(r, sampled=()) == job.requests[0] for r in left.values())
    usage = usage_of(job, choices)
    assert (usage.completion_tokens, usage.prompt_tokens_details.cached_tokens) == (3, 2)
