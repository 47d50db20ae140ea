"""Going on with streams, by id and by the client's key, with one gateway and the next."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import httpx
import pytest
from tests.api.conftest import Door, Doors
from tests.support.scripted import MODEL, Sampler, fail, sample_hashes, say

from atoll.api.backend import Health
from atoll.api.journal import MAGIC, Journal, JournalFault
from atoll.api.keeper import StreamKeeping
from atoll.api.limits import Limits
from atoll.domain.errors import BadRequest, RingDown
from atoll.domain.generation import GenerateRequest, Sampled

pytestmark = pytest.mark.network

ASKED: dict[str, Any] = {"model": MODEL, "prompt": "The tide", "max_tokens": 24, "stream": True}


def pause_after(n_tokens: int) -> Sampler:
    """The usual tokens, and no more of them once there are so many."""

    async def sample(request: GenerateRequest) -> AsyncGenerator[Sampled, None]:
        async with aclosing(sample_hashes(request)) as tokens:
            count = len(request.sampled)
            async for sampled in tokens:
                if count == n_tokens:
                    await asyncio.Event().wait()
                count += 1
                yield sampled

    return sample


def events_of(text: str) -> dict[int, str]:
    """Data by number; comments are passed over."""
    found = {}
    for event in text.split("\n\n"):
        lines = [line for line in event.split("\n") if not line.startswith(":")]
        if lines and lines[0].startswith("id: "):
            found[int(lines[0][4:])] = lines[1].removeprefix("data: ")
    return found


def by_choice(events: dict[int, str]) -> dict[int, list[Any]]:
    """What each choice was told, without what differs between two answers."""
    told: dict[int, list[Any]] = {}
    for data in events.values():
        if data != "[DONE]":
            for choice in json.loads(data)["choices"]:
                told.setdefault(choice["index"], []).append(choice)
    return told


async def read_some(door: Door, n_events: int, path: str = "/v1/completions", **asked: Any) -> Any:
    """Read so many events of a stream and hang up; its id, and what was read."""
    headers = asked.pop("headers", {})
    body = {**ASKED, **asked}
    if path.endswith("chat/completions"):
        body["messages"] = [{"role": "user", "content": body.pop("prompt")}]
    async with door.http.stream("POST", path, json=body, headers=headers) as reply:
        assert reply.status_code == 200
        text = ""
        async with asyncio.timeout(10):
            async for part in reply.aiter_text():
                text += part
                if text.count("\n\n") >= n_events:
                    break
    await gone(door)
    events = events_of(text)
    return reply.headers["x-stream-id"], {n: d for n, d in events.items() if n <= n_events}


async def gone(door: Door) -> None:
    """Wait until nothing is generated any more."""
    async with asyncio.timeout(5):
        await door.backend.all_closed.wait()


async def rest_of(door: Door, stream: str, after: int) -> dict[int, str]:
    reply = await door.http.get(f"/v1/streams/{stream}", headers={"last-event-id": str(after)})
    assert reply.status_code == 200, reply.text
    assert reply.headers["x-stream-id"] == stream
    return events_of(reply.text)


SHAPES: list[dict[str, Any]] = [
    {},
    {"n": 3, "stream_options": {"include_usage": True}},
    {"stop": [" sea r", " gull."], "n": 2},
    {"logprobs": 2, "path": "/v1/completions"},
    {"path": "/v1/chat/completions", "logprobs": True, "top_logprobs": 2, "n": 2},
    {"path": "/v1/chat/completions", "stream_options": {"include_usage": True}},
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("restarted", [False, True])
async def test_a_stream_goes_on_where_it_broke(
    doors: Doors, door: Door, shape: dict[str, Any], restarted: bool
) -> None:
    _, undisturbed = await read_some(door, 1000, seed=5, **shape)
    door.backend.sampler = pause_after(12)
    stream, seen = await read_some(door, 6, seed=5, **shape)
    assert len(seen) == 6
    if restarted:
        # The first one stays as it is: a process that is killed says nothing.
        door = await doors.open(again=door)
    door.backend.sampler = sample_hashes
    n_asked = len(door.backend.requests)
    rest = await rest_of(door, stream, 6)
    told = {**seen, **rest}
    # Without a gap or a repeat, and for each choice what it would have been.
    assert list(told) == list(range(1, max(told) + 1))
    assert sorted(rest) == list(range(7, max(told) + 1))
    assert told[max(told)] == "[DONE]"
    assert by_choice(told) == by_choice(undisturbed)
    # The tokens that were there were not asked for again.
    resumed = door.backend.requests[n_asked:]
    assert resumed
    assert all(request.sampled for request in resumed)
    # From now on it is read from the journal alone, from any place.
    for after in (0, 3, max(told) - 1):
        assert await rest_of(door, stream, after) == {n: d for n, d in told.items() if n > after}
    assert len(door.backend.requests) == n_asked + len(resumed)
    done = await door.http.get(f"/v1/streams/{stream}?after={max(told)}")
    assert (done.status_code, done.text) == (204, "")


async def test_the_seed_that_was_drawn_is_kept(doors: Doors, door: Door) -> None:
    door.backend.sampler = pause_after(6)
    stream, seen = await read_some(door, 3)
    later = await doors.open(again=door)
    told = {**seen, **await rest_of(later, stream, 3)}
    [first], [second] = door.backend.requests, later.backend.requests
    assert second.sampling == first.sampling
    assert second.prompt == first.prompt
    door.backend.sampler = sample_hashes
    asked = {**ASKED, "stream": False, "seed": first.sampling.seed}
    whole = (await door.http.post("/v1/completions", json=asked)).json()["choices"]
    assert "".join(part["text"] for part in by_choice(told)[0]) == whole[0]["text"]


async def test_leaving_frees_the_slots_at_once(door: Door) -> None:
    door.backend.sampler = pause_after(4)
    stream, _ = await read_some(door, 2, n=3)
    assert door.backend.open == 0
    # What came after the client stopped reading, but before it hung up, is not lost either.
    door.backend.sampler = sample_hashes
    await rest_of(door, stream, 2)
    assert all(len(request.sampled) >= 1 for request in door.backend.requests[3:])


async def test_other_keys_do_not_get_it(door: Door) -> None:
    stream, _ = await read_some(door, 3)
    other = {"authorization": f"Bearer {door.keys.create('other').secret}"}
    for headers, status in ((other, 404), ({"authorization": ""}, 401)):
        reply = await door.http.get(f"/v1/streams/{stream}", headers=headers)
        assert reply.status_code == status
    nobody = await door.http.get("/v1/streams/strm-" + "0" * 32)
    assert nobody.status_code == 404
    assert nobody.json()["error"]["code"] == "stream_not_found"


@pytest.mark.parametrize("after", ["-1", "x", "1.5", "9" * 30, "٣"])
async def test_what_is_no_number(door: Door, after: str) -> None:
    stream, _ = await read_some(door, 3)
    reply = await door.http.get(f"/v1/streams/{stream}", params={"after": after})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "after")


async def test_numbers_that_were_never_given_out(door: Door) -> None:
    stream, _ = await read_some(door, 1000)
    reply = await door.http.get(f"/v1/streams/{stream}?after=1000")
    assert (reply.status_code, reply.json()["error"]["code"]) == (409, "stream_behind")


def records(content: bytes, n: int) -> bytes:
    """The first `n` records of a journal, the head among them."""
    at = len(MAGIC)
    for _ in range(n):
        at += 8 + int.from_bytes(content[at : at + 4], "little")
    return content[:at]


@pytest.mark.parametrize("n", [1, 2])
async def test_what_a_loss_of_power_took(doors: Doors, door: Door, n: int) -> None:
    """The client has events that the journal has not: it lost its last records."""
    door.backend.sampler = pause_after(9)
    stream, seen = await read_some(door, 8, seed=5, n=n)
    [path] = (doors.folder / "streams-1").iterdir()
    path.write_bytes(records(path.read_bytes(), 1 + 4))
    later = await doors.open(again=door)
    reply = await later.http.get(f"/v1/streams/{stream}?after=8")
    if n > 1:
        assert (reply.status_code, reply.json()["error"]["code"]) == (409, "stream_behind")
        return
    _, undisturbed = await read_some(later, 1000, seed=5)
    told = {**seen, **events_of(reply.text)}
    assert list(told) == list(undisturbed)
    assert by_choice(told) == by_choice(undisturbed)


async def test_who_reads_later_takes_the_stream_over(door: Door) -> None:
    door.backend.sampler = pause_after(5)
    async with door.http.stream("POST", "/v1/completions", json=ASKED) as first:
        parts = first.aiter_text()
        said = ""
        async with asyncio.timeout(10):
            while said.count("\n\n") < 3:
                said += await anext(parts)
        door.backend.sampler = sample_hashes
        stream = first.headers["x-stream-id"]
        rest = await rest_of(door, stream, 3)
        async with asyncio.timeout(10):
            said += "".join([part async for part in parts])
    assert list(rest) == list(range(4, max(rest) + 1))
    kind, data = said.split("\n\n")[-2].split("\n")
    assert kind == "event: error"
    assert json.loads(data.removeprefix("data: "))["error"]["code"] == "stream_taken_over"
    assert (door.backend.open, len(door.backend.requests)) == (0, 2)


async def test_a_client_that_stopped_reading_does_not_hold_it(doors: Doors) -> None:
    door = await doors.open(limits=Limits(write_timeout_s=30))
    big = say(*["x" * 65536] * 200)
    door.backend.sampler = big
    async with door.http.stream("POST", "/v1/completions", json={**ASKED, "max_tokens": 300}) as r:
        stream = r.headers["x-stream-id"]
        async with asyncio.timeout(10):
            reply = await door.http.get(f"/v1/streams/{stream}?after=0")
    assert reply.status_code == 200
    assert max(events_of(reply.text)) == 202


async def test_a_ring_that_is_long_in_coming(doors: Doors, door: Door) -> None:
    door.backend.sampler = pause_after(5)
    stream, seen = await read_some(door, 3, seed=5)
    limits = Limits(comment_s=0.05)
    later = await doors.open(again=door, limits=limits)
    later.backend.state = Health(ready=False, reason="waiting for 2 nodes")
    # A new request is refused meanwhile, one that goes on is not.
    assert (await later.complete()).status_code == 503
    async with later.http.stream("GET", f"/v1/streams/{stream}?after=3") as reply:
        assert reply.status_code == 200
        text = ""
        async with asyncio.timeout(10):
            async for part in reply.aiter_text():
                text += part
                if text.count(": waiting for the ring\n") == 3:
                    # What was there before comes at once.
                    assert 4 in events_of(text)
                    later.backend.state = Health(ready=True)
    events = events_of(text)
    assert events[max(events)] == "[DONE]"
    assert list({**seen, **events}) == list(range(1, max(events) + 1))


async def test_a_stream_whose_ring_is_away_says_so(doors: Doors) -> None:
    door = await doors.open(limits=Limits(comment_s=0.05))
    door.backend.sampler = pause_after(3)
    async with (
        asyncio.timeout(10),
        door.http.stream("POST", "/v1/completions", json=ASKED) as reply,
    ):
        text = ""
        async for part in reply.aiter_text():
            text += part
            if ": no token yet\n" in text:
                door.backend.state = Health(ready=False, reason="waiting for 2 nodes")
            if ": waiting for the ring\n" in text:
                break
    # Before the first event the status is not told, so nothing is.
    assert text.startswith("id: 1\n")


async def test_a_ring_that_does_not_come(doors: Doors, door: Door) -> None:
    door.backend.sampler = pause_after(5)
    stream, _ = await read_some(door, 3)
    later = await doors.open(again=door, limits=Limits(ring_wait_s=0.1))
    later.backend.state = Health(ready=False, reason="waiting for 2 nodes")
    reply = await later.http.get(f"/v1/streams/{stream}?after=3")
    assert reply.status_code == 200
    *_, last, _ = reply.text.split("\n\n")
    assert '"code":"ring_down"' in last
    assert "waiting for 2 nodes" in last
    # It is still there for later.
    later.backend.state = Health(ready=True)
    assert (await rest_of(later, stream, 3))[4]


async def test_a_ring_that_breaks_ends_no_stream_for_good(door: Door) -> None:
    door.backend.sampler = fail(RingDown("node reef left the ring"), "one", " two")
    reply = await door.complete(stream=True)
    assert "event: error" in reply.text
    door.backend.sampler = say("one", " two", " three")
    rest = await rest_of(door, reply.headers["x-stream-id"], 2)
    assert '"text":" three"' in rest[3]


async def test_what_fails_at_once_is_not_kept(door: Door) -> None:
    assert door.keeper is not None
    door.backend.sampler = fail(RingDown("gone"))
    assert (await door.complete(stream=True)).status_code == 503
    door.backend.sampler = fail(BadRequest("too long for this ring"), "one")
    reply = await door.complete(stream=True)
    assert "event: error" in reply.text
    assert door.keeper.n_streams == 0
    assert (await door.http.get("/v1/streams/" + reply.headers["x-stream-id"])).status_code == 404


async def test_without_keeping_there_are_no_streams(doors: Doors) -> None:
    door = await doors.open(keep=StreamKeeping(0))
    reply = await door.complete(stream=True)
    assert "x-stream-id" not in reply.headers
    assert list(events_of(reply.text))[:2] == [1, 2]
    assert (await door.http.get("/v1/streams/strm-" + "0" * 32)).status_code == 404
    again = {"idempotency-key": "x"}
    for _ in range(2):
        assert (await door.http.post("/v1/completions", json=ASKED, headers=again)).is_success
    assert len(door.backend.requests) == 3


async def test_a_full_disk_ends_no_stream(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_self: Journal, _record: object) -> None:
        raise JournalFault("a stream's journal cannot be written: No space left on device")

    monkeypatch.setattr(Journal, "append", full)
    reply = await door.complete(stream=True, max_tokens=8)
    assert events_of(reply.text)[max(events_of(reply.text))] == "[DONE]"
    assert "No space left" in door.said[0]
    assert (await door.http.get("/v1/streams/" + reply.headers["x-stream-id"])).status_code == 404


async def test_nothing_that_was_said_is_logged(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG", logger="atoll"):
        door.backend.sampler = say(" barnacle")
        stream, _ = await read_some(door, 1000, prompt="periwinkle")
        await rest_of(door, stream, 0)
    assert not any(word in caplog.text for word in ("barnacle", "periwinkle", stream))


KEY = {"idempotency-key": "3f8a"}


class TestIdempotency:
    async def ask(self, door: Door, **fields: Any) -> httpx.Response:
        body = {**ASKED, **fields}
        return await door.http.post("/v1/completions", json=body, headers=KEY)

    @pytest.mark.parametrize("stream", [False, True])
    async def test_the_same_request_is_answered_once(
        self, doors: Doors, door: Door, stream: bool
    ) -> None:
        first = await self.ask(door, stream=stream, n=2)
        again = await self.ask(door, stream=stream, n=2)
        later = await doors.open(again=door)
        afterwards = await self.ask(later, stream=stream, n=2)
        assert len(door.backend.requests) == 2
        assert later.backend.requests == []
        for other in (again, afterwards):
            assert other.status_code == 200
            if stream:
                assert events_of(other.text) == events_of(first.text)
            else:
                assert other.content == first.content
            assert other.headers["x-request-id"] == first.headers["x-request-id"]
            assert other.headers["x-stream-id"] == first.headers["x-stream-id"]

    async def test_another_request_under_the_same_key(self, door: Door) -> None:
        await self.ask(door)
        reply = await self.ask(door, max_tokens=3)
        assert reply.status_code == 422
        assert reply.json()["error"]["code"] == "idempotency_key_reused"
        # Others have keys of their own.
        other = {**KEY, "authorization": f"Bearer {door.keys.create('other').secret}"}
        body = {**ASKED, "max_tokens": 3}
        reply = await door.http.post("/v1/completions", json=body, headers=other)
        assert reply.status_code == 200

    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_second_one_takes_over_while_the_first_runs(
        self, door: Door, stream: bool
    ) -> None:
        door.backend.sampler = pause_after(5)
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(self.ask(door, stream=stream, seed=1))
            async with asyncio.timeout(10):
                while door.backend.yielded < 5:
                    await asyncio.sleep(0.01)
            door.backend.sampler = sample_hashes
            second = await self.ask(door, stream=stream, seed=1)
        assert second.status_code == 200
        assert [len(request.sampled) for request in door.backend.requests] == [0, 5]
        reply = first.result()
        assert "stream_taken_over" in reply.text
        assert reply.status_code == (200 if stream else 409)
        whole = await door.http.post("/v1/completions", json={**ASKED, "stream": stream, "seed": 1})
        if stream:
            assert by_choice(events_of(second.text)) == by_choice(events_of(whole.text))
        else:
            assert second.json()["choices"] == whole.json()["choices"]
            assert second.json()["usage"] == whole.json()["usage"]

    async def test_two_at_the_same_time_are_one(self, door: Door) -> None:
        replies = await asyncio.gather(*(self.ask(door, stream=False, seed=1) for _ in range(4)))
        good = [reply for reply in replies if reply.status_code == 200]
        assert good
        assert all(reply.status_code == 409 for reply in replies if reply not in good)
        assert len({reply.json()["id"] for reply in good}) == 1
        assert door.keeper is not None
        assert door.keeper.n_streams == 1

    async def test_a_whole_answer_goes_on_after_a_restart(self, doors: Doors, door: Door) -> None:
        door.backend.sampler = pause_after(5)
        with pytest.raises(httpx.ReadTimeout):
            await door.http.post(
                "/v1/completions",
                json={**ASKED, "stream": False, "seed": 1},
                headers=KEY,
                timeout=0.5,
            )
        later = await doors.open(again=door)
        reply = await self.ask(later, stream=False, seed=1)
        [request] = later.backend.requests
        assert len(request.sampled) == 5
        whole = await later.http.post("/v1/completions", json={**ASKED, "stream": False, "seed": 1})
        assert reply.json()["choices"] == whole.json()["choices"]

    async def test_errors_are_not_kept(self, door: Door) -> None:
        door.backend.sampler = fail(RingDown("gone"))
        assert (await self.ask(door)).status_code == 503
        door.backend.sampler = sample_hashes
        assert (await self.ask(door)).status_code == 200
        assert (await self.ask(door, max_tokens=3)).status_code == 422

    async def test_a_stored_answer_needs_no_ring(self, door: Door) -> None:
        first = await self.ask(door, stream=False)
        door.backend.state = Health(ready=False, reason="waiting")
        assert (await self.ask(door, stream=False)).content == first.content

    @pytest.mark.parametrize("key", ["", "x" * 256, "é"])
    async def test_keys_that_are_none(self, door: Door, key: str) -> None:
        headers = {b"idempotency-key": key.encode()}
        reply = await door.http.post(
            "/v1/completions",
            json=ASKED,
            headers=headers,
        )
        assert reply.status_code == 400
        assert reply.json()["error"]["code"] == "invalid_idempotency_key"
