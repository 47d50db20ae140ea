"""Who is let in: by key, by deadline, and before anything is read that need not be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import httpx
import pytest
from tests.api.conftest import Door, Doors
from tests.support.scripted import MODEL, sample_hashes, say

from atoll.api.allowance import Allowance
from atoll.api.keeper import StreamKeeping
from atoll.api.limits import Limits
from atoll.domain.errors import DeadlineExceeded, Overloaded
from atoll.domain.generation import GenerateRequest, Sampled

pytestmark = pytest.mark.network


@dataclass
class Held:
    """A ring that says a token and then waits until it is told to end."""

    go: asyncio.Event

    async def __call__(self, request: GenerateRequest) -> AsyncGenerator[Sampled, None]:
        yield Sampled(1, b"one")
        await self.go.wait()
        yield Sampled(2, b"two", "stop")


@pytest.fixture
def held(door: Door) -> Held:
    held = Held(asyncio.Event())
    door.backend.sampler = held
    return held


async def wait_open(door: Door, n: int) -> None:
    async with asyncio.timeout(5):
        while door.backend.open != n:
            await asyncio.sleep(0.005)


def allow(door: Door, **allowed: object) -> None:
    door.keys.allow("test", lambda old: old.changed(**allowed))  # type: ignore[arg-type]


def header_of(door: Door, allowance: Allowance | None = None) -> dict[str, str]:
    made = door.keys.create(f"key-{len(door.keys.list())}", allowance)
    return {"authorization": f"Bearer {made.secret}"}


async def test_a_key_has_so_many_answers_at_once(door: Door, held: Held) -> None:
    allow(door, streams=2)
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(door.complete())
        await wait_open(door, 1)
        refused = await door.complete(n=2)
        assert refused.status_code == 429
        second = tasks.create_task(door.complete())
        await wait_open(door, 2)
        refused = await door.complete()
        assert (await door.http.get("/v1/models")).status_code == 200
        held.go.set()
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (429, "rate_limit_exceeded")
    assert error["type"] == "rate_limit_error"
    assert int(refused.headers["retry-after"]) >= 1
    assert [task.result().status_code for task in (first, second)] == [200, 200]
    assert (await door.complete()).status_code == 200


async def test_another_key_has_its_own(door: Door, held: Held) -> None:
    allow(door, streams=1)
    other = header_of(door)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(door.complete())
        await wait_open(door, 1)
        asked = {"model": MODEL, "prompt": "x"}
        answer = tasks.create_task(door.http.post("/v1/completions", json=asked, headers=other))
        await wait_open(door, 2)
        held.go.set()
    assert answer.result().status_code == 200


async def test_tokens_a_minute_count_prompt_and_answer(door: Door) -> None:
    allow(door, tokens_per_minute=100)
    # A prompt of ten bytes is ten tokens; the answer's are the words and the end.
    door.backend.sampler = say(*["word"] * 99)
    assert (await door.complete(prompt="0123456789")).status_code == 200
    refused = await door.complete()
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    # Ten beyond a hundred, and one to begin with: at 100 a minute 6.6 s, less what has passed.
    assert 5 <= int(refused.headers["retry-after"]) <= 7
    assert len(door.backend.requests) == 1
    allow(door, tokens_per_minute=0)
    assert (await door.complete()).status_code == 200


async def test_a_client_that_leaves_has_used_what_was_computed(door: Door) -> None:
    allow(door, tokens_per_minute=5)

    async def stall(request: GenerateRequest) -> AsyncGenerator[Sampled, None]:
        for _ in range(10):
            yield Sampled(1, b"one")
        await asyncio.Event().wait()

    door.backend.sampler = stall
    asked = {"model": MODEL, "prompt": "x", "stream": True}
    async with door.http.stream("POST", "/v1/completions", json=asked) as reply:
        async for line in reply.aiter_lines():
            if line:
                break
    async with asyncio.timeout(5):
        await door.backend.all_closed.wait()
    assert (await door.complete()).status_code == 429


async def test_the_ring_s_objection_comes_before_the_body_is_read(door: Door) -> None:
    door.backend.objection = Overloaded("the ring is full", retry_after_s=7)
    reply = await door.http.post(
        "/v1/chat/completions", content=b"{ no JSON", headers={"content-type": "application/json"}
    )
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (503, "overloaded")
    assert reply.headers["retry-after"] == "7"
    assert door.text.seen == []
    door.backend.objection = None
    assert (await door.chat()).status_code == 200


async def test_the_ring_is_told_whose_the_request_is(door: Door) -> None:
    header = header_of(door, Allowance(priority="high"))
    asked = {"model": MODEL, "prompt": "abc", "n": 2, "deadline_s": 50}
    assert (await door.http.post("/v1/completions", json=asked, headers=header)).status_code == 200
    early, late = door.backend.demands
    key_id = header["authorization"].split("-")[1]
    assert (early.group, early.priority, early.deadline_s, early.requests) == (key_id, 1, 600, ())
    assert (late.group, len(late.requests)) == (key_id, 2)
    assert late.deadline_s is not None
    assert 45 < late.deadline_s <= 50
    for request in door.backend.requests:
        assert (request.group, request.priority) == (key_id, 1)
        assert request.deadline_s == late.deadline_s


async def test_the_shortest_deadline_counts(doors: Doors) -> None:
    door = await doors.open(limits=Limits(deadline_s=30))
    reply = await door.complete(deadline_s=1000)
    assert reply.status_code == 200
    header = {"x-atoll-deadline-s": "20.5"}
    asked = {"model": MODEL, "prompt": "x", "deadline_s": 1000}
    await door.http.post("/v1/completions", json=asked, headers=header)
    found = [demand.deadline_s for demand in door.backend.demands]
    assert [round(s) for s in found if s is not None] == [30, 1000, 20, 20]


async def test_no_deadline(doors: Doors) -> None:
    door = await doors.open(limits=Limits(deadline_s=0))
    assert (await door.complete()).status_code == 200
    assert [demand.deadline_s for demand in door.backend.demands] == [None, None]
    assert door.backend.requests[0].deadline_s is None


@pytest.mark.parametrize("sent", ["soon", "0", "-1", "nan", "inf", "1e9", "1" * 100])
async def test_a_deadline_that_is_none(door: Door, sent: str) -> None:
    reply = await door.http.post("/v1/completions", headers={"x-atoll-deadline-s": sent})
    assert reply.status_code == 400
    assert "x-atoll-deadline-s" in reply.json()["error"]["message"]


@pytest.mark.parametrize("sent", [0, -1, 1e9, "1"])
async def test_a_field_that_is_none(door: Door, sent: object) -> None:
    reply = await door.complete(deadline_s=sent)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "deadline_s")


async def test_a_deadline_that_passes(door: Door) -> None:
    async def late(request: GenerateRequest) -> AsyncGenerator[Sampled, None]:
        yield Sampled(1, b"one")
        raise DeadlineExceeded("the answer was not done within 2 s")

    door.backend.sampler = late
    whole: httpx.Response = await door.complete()
    error = whole.json()["error"]
    assert (whole.status_code, error["code"]) == (504, "deadline_exceeded")
    streamed = await door.complete(stream=True)
    assert streamed.status_code == 200
    assert "event: error" in streamed.text
    assert "deadline_exceeded" in streamed.text
    assert "[DONE]" not in streamed.text
    door.backend.sampler = sample_hashes
    assert (await door.complete()).status_code == 200


async def test_an_answer_that_goes_on_is_let_in_and_counts(doors: Doors) -> None:
    """Whoever asks again for an answer that was let in is not refused for it."""
    door = await doors.open(keep=StreamKeeping())
    allow(door, streams=1)
    retry = {"idempotency-key": "one"}
    asked = {"model": MODEL, "prompt": "x", "max_tokens": 8}
    first = await door.http.post("/v1/completions", json=asked, headers=retry)
    door.backend.objection = Overloaded("the ring is full", retry_after_s=7)
    again = await door.http.post("/v1/completions", json=asked, headers=retry)
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json()["choices"] == first.json()["choices"]
    other = {"idempotency-key": "two"}
    assert (await door.http.post("/v1/completions", json=asked, headers=other)).status_code == 503
