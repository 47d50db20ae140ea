"""The official client against a real ring, and what it computes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import openai
import pytest
import pytest_asyncio
from bench.api_fuzz import BATCHES, ApiFuzzer, Tally
from tests.support.openai_checks import CHECKS, Check
from tests.support.rings import Ring

from atoll.engine.whole import WholeModel
from atoll.store.layout import FoundModel

pytestmark = [
    pytest.mark.engine,
    pytest.mark.network,
    pytest.mark.asyncio(loop_scope="module"),
]

TEXTS = (
    "The tide goes out and",
    "def add(a, b):\n    return",
    "Once upon a time there was a king who",
    "Water boils at a temperature of",
    "1, 2, 3, 4, 5,",
    "The capital of France is",
    "Dear Sir or Madam,",
    "In 1969 two people",
)
N_TOKENS = 16


@pytest.fixture(scope="module", autouse=True)
def whole(demo: FoundModel) -> Iterator[WholeModel]:
    """Opened before the ring is, as that would hold up the ring's gateway."""
    model = WholeModel(demo.path, n_slots=len(TEXTS), context=1024, threads=1)
    yield model
    model.close()


async def greedy(
    whole: WholeModel, asked: list[tuple[int, ...]], n: int
) -> tuple[tuple[int, ...], ...]:
    """The whole model's tokens; in a thread, as the ring's gateway lives on this loop."""
    run = await asyncio.to_thread(whole.greedy, asked, n, exact=True, stop_at_end=False)
    return run.tokens


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def wanted(whole: WholeModel) -> tuple[tuple[int, ...], ...]:
    """What it says after each of the texts; the ring's gateway goes on meanwhile."""
    return await greedy(whole, prompts(whole), N_TOKENS)


def prompts(whole: WholeModel) -> list[tuple[int, ...]]:
    return [
        tuple(whole.vocabulary.tokens(text, add_special=True, parse_special=False))
        for text in TEXTS
    ]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_official_client(demo_ring: Ring, check: Check) -> None:
    await check(demo_ring.client, demo_ring.name)
    await demo_ring.wait_idle()


async def test_exact_tokens_are_the_whole_models_alone_and_merged(
    demo_ring: Ring, whole: WholeModel, wanted: tuple[tuple[int, ...], ...]
) -> None:
    asked = prompts(whole)
    merged = await asyncio.gather(*(demo_ring.tokens(prompt, N_TOKENS) for prompt in asked))
    assert tuple(merged) == wanted
    for prompt, tokens in list(zip(asked, wanted, strict=True))[:3]:
        assert await demo_ring.tokens(prompt, N_TOKENS) == tokens


async def test_exact_text_over_http_is_the_whole_models(
    demo_ring: Ring, whole: WholeModel, wanted: tuple[tuple[int, ...], ...]
) -> None:
    reply = await demo_ring.client.completions.create(
        model=demo_ring.name,
        prompt=TEXTS[0],
        max_tokens=N_TOKENS,
        temperature=0,
        extra_body={"exact": True, "ignore_eos": True},
    )
    pieces = b"".join(whole.vocabulary.piece(token) for token in wanted[0])
    assert reply.choices[0].text == pieces.decode()


async def test_default_mode_says_nearly_the_same(
    demo_ring: Ring, whole: WholeModel, wanted: tuple[tuple[int, ...], ...]
) -> None:
    """Half-precision frames move logits a little: texts part late, if at all."""
    asked = prompts(whole)
    rough = await asyncio.gather(*(demo_ring.tokens(p, N_TOKENS, exact=False) for p in asked))
    equal = [sum(map(int.__eq__, a, b)) for a, b in zip(wanted, rough, strict=True)]
    assert sum(equal) > 0.4 * N_TOKENS * len(asked), equal
    assert sum(a[0] == b[0] for a, b in zip(wanted, rough, strict=True)) >= len(asked) - 1
    reply = await demo_ring.client.completions.create(
        model=demo_ring.name, prompt="The capital of France is", max_tokens=8, temperature=0
    )
    assert "Paris" in reply.choices[0].text


async def test_a_prompt_of_many_chunks_beyond_512_positions(
    demo_ring: Ring, whole: WholeModel, wanted: tuple[tuple[int, ...], ...]
) -> None:
    """Exact chunks have 63 rows, so this takes nine, and decodes behind 512 cells."""
    prompt = tuple(list(prompts(whole)[2]) * 70)[:516]
    [expected] = await greedy(whole, [prompt], 6)
    beside = prompts(whole)[0]
    long, short = await asyncio.gather(
        demo_ring.tokens(prompt, 6), demo_ring.tokens(beside, N_TOKENS)
    )
    assert long == expected
    assert short == wanted[0]
    roughly = await demo_ring.tokens(prompt, 6, exact=False)
    assert len(roughly) == 6


async def test_more_requests_than_slots_wait_their_turn(demo_ring: Ring) -> None:
    async def ask(seed: int) -> int:
        reply = await demo_ring.client.completions.create(
            model=demo_ring.name,
            prompt=TEXTS[seed % len(TEXTS)],
            max_tokens=8,
            seed=seed,
            extra_body={"ignore_eos": True},
        )
        assert reply.usage is not None
        return reply.usage.completion_tokens

    assert await asyncio.gather(*(ask(seed) for seed in range(14))) == [8] * 14
    await demo_ring.wait_idle()


async def test_too_many_requests_are_told_when_to_come_back(demo_ring: Ring) -> None:
    """Eight streams run and eight may wait; three times eight choices are too many."""

    async def ask() -> openai.APIStatusError | None:
        try:
            await demo_ring.client.completions.create(
                model=demo_ring.name,
                prompt="The tide",
                n=8,
                max_tokens=16,
                extra_body={"ignore_eos": True},
            )
        except openai.APIStatusError as error:
            return error
        return None

    outcomes = await asyncio.gather(*(ask() for _ in range(3)))
    refused = [error for error in outcomes if error is not None]
    assert len(refused) == 1
    assert refused[0].status_code == 503
    assert refused[0].code == "overloaded"
    assert int(refused[0].response.headers["retry-after"]) >= 1
    await demo_ring.wait_idle()


async def test_a_prompt_beyond_the_context_is_a_bad_request(demo_ring: Ring) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await demo_ring.client.completions.create(
            model=demo_ring.name, prompt=[1000] * 1025, max_tokens=1
        )
    assert caught.value.code == "context_length_exceeded"
    assert "1025" in caught.value.message
    assert demo_ring.status.active == 0


async def test_made_requests_are_answered_as_the_document_says(demo_ring: Ring) -> None:
    """A small part of `python -m bench api-fuzz`."""

    def fuzz() -> Tally:
        few = dict.fromkeys(BATCHES, 2)
        return ApiFuzzer(demo_ring.gateway.url, demo_ring.secret, seed=7, batches=few).run(30)

    tally = await asyncio.to_thread(fuzz)
    assert tally.cases == 30
    assert not tally.faults, "\n".join(tally.shown)
    assert {200, 400, 401, 404} <= tally.statuses.keys()
    await demo_ring.wait_idle()


async def test_the_status_names_every_stage(demo_ring: Ring) -> None:
    reply = await demo_ring.http.get("/status")
    status = reply.json()
    assert status["ready"]
    assert [stage["ready"] for stage in status["rings"][0]["stages"]] == [True] * 3
    ranges = [(stage["first"], stage["last"]) for stage in status["rings"][0]["stages"]]
    assert (ranges[0][0], ranges[-1][1]) == (1, 29)
    assert all(a[1] == b[0] for a, b in itertools.pairwise(ranges))
    assert status["rings"][0]["lap"]["steps"] > 0
    assert demo_ring.secret not in reply.text
