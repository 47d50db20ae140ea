"""The application behind a real server: paths, keys, limits, statuses."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from tests.api.conftest import Door, Doors
from tests.support.scripted import CONTEXT, MODEL, flood

from atoll.api.backend import Health
from atoll.api.limits import Limits
from atoll.domain.errors import EngineFault

pytestmark = pytest.mark.network


def error_of(reply: httpx.Response) -> dict[str, Any]:
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return dict(error)


async def test_health_needs_no_key(door: Door) -> None:
    reply = await door.http.get("/health", headers={"authorization": ""})
    assert (reply.status_code, reply.json()) == (200, {"status": "ok"})


async def test_health_while_the_ring_is_down(door: Door) -> None:
    door.backend.state = Health(ready=False, reason="waiting for 2 of 3 nodes")
    reply = await door.http.get("/health")
    assert reply.status_code == 503
    assert reply.json() == {"status": "unavailable", "reason": "waiting for 2 of 3 nodes"}


async def test_models(door: Door) -> None:
    model = {
        "id": MODEL,
        "object": "model",
        "created": 1_700_000_000,
        "owned_by": "atoll",
        "context_length": CONTEXT,
    }
    assert (await door.http.get("/v1/models")).json() == {"object": "list", "data": [model]}
    assert (await door.http.get(f"/v1/models/{MODEL}")).json() == model


async def test_a_ring_that_is_down_is_503(door: Door) -> None:
    door.backend.state = Health(ready=False, reason="waiting for 2 of 3 nodes")
    for reply in (await door.chat(), await door.complete(), await door.chat(stream=True)):
        assert reply.status_code == 503
        assert "retry-after" in reply.headers
        assert error_of(reply)["code"] == "ring_down"
        assert "waiting for 2 of 3 nodes" in error_of(reply)["message"]


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer atoll-00000000-wrong", "Basic abc", "Bearer é"]
)
async def test_a_bad_key(door: Door, header: str) -> None:
    paths = ["/v1/models", "/v1/chat/completions", "/nothing"]
    for path in paths:
        reply = await door.http.get(path, headers={b"authorization": header.encode()})
        assert reply.status_code == 401
        assert error_of(reply)["code"] == "invalid_api_key"
        assert reply.headers["www-authenticate"] == "Bearer"


async def test_a_key_works_and_stops_working_without_a_restart(door: Door) -> None:
    made = door.keys.create("second")
    headers = {"authorization": f"Bearer {made.secret}"}
    assert (await door.http.get("/v1/models", headers=headers)).status_code == 200
    door.keys.revoke("second")
    assert (await door.http.get("/v1/models", headers=headers)).status_code == 401


async def test_damaged_keys_let_nobody_in_and_tell_no_path(doors: Doors, door: Door) -> None:
    file = doors.folder / "keys-1.json"
    file.write_bytes(b"{")
    reply = await door.http.get("/v1/models")
    assert reply.status_code == 503
    assert error_of(reply)["code"] == "keys_unavailable"
    assert str(doors.folder) not in reply.text


async def test_without_keys_only_loopback_names_are_served(doors: Doors) -> None:
    door = await doors.open(auth=False)
    plain = {"authorization": ""}
    assert (await door.http.get("/v1/models", headers=plain)).status_code == 200
    for host in ("localhost:80", "[::1]:80", "127.0.0.1"):
        reply = await door.http.get("/v1/models", headers=plain | {"host": host})
        assert reply.status_code == 200
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "[fe80::1]", ""):
        reply = await door.http.get("/v1/models", headers=plain | {"host": host})
        assert reply.status_code == 403
        assert error_of(reply)["code"] == "host_not_allowed"


async def test_unknown_paths_and_methods(door: Door) -> None:
    reply = await door.http.get("/v1/embeddings")
    assert (reply.status_code, error_of(reply)["code"]) == (404, "unknown_url")
    reply = await door.http.get("/v1/chat/completions")
    assert (reply.status_code, error_of(reply)["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded"])
async def test_another_content_type(door: Door, kind: str) -> None:
    reply = await door.http.post(
        "/v1/chat/completions", content=b"{}", headers={"content-type": kind}
    )
    assert (reply.status_code, error_of(reply)["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
async def test_invalid_json(door: Door, body: bytes) -> None:
    for path in ("/v1/chat/completions", "/v1/completions"):
        reply = await door.http.post(
            path, content=body, headers={"content-type": "application/json; charset=utf-8"}
        )
        assert reply.status_code == 400
        assert error_of(reply)["type"] == "invalid_request_error"


async def test_a_body_over_the_limit(doors: Doors) -> None:
    door = await doors.open(limits=Limits(body_bytes_max=100_000))
    fits = await door.complete(prompt="x" * 1000)
    assert fits.status_code == 200
    for n_bytes in (100_000, 300_000):
        reply = await door.complete(prompt="x" * n_bytes)
        assert (reply.status_code, error_of(reply)["code"]) == (413, "body_too_large")


async def test_header_fields_over_the_limit(doors: Doors) -> None:
    door = await doors.open(limits=Limits(header_bytes_max=4000))
    reply = await door.http.get("/v1/models", headers={"x-long": "x" * 4001})
    assert (reply.status_code, error_of(reply)["code"]) == (431, "headers_too_large")


async def test_too_many_messages(doors: Doors) -> None:
    door = await doors.open(limits=Limits(messages_max=3))
    message = {"role": "user", "content": "x"}
    assert (await door.chat(messages=[message] * 3)).status_code == 200
    reply = await door.chat(messages=[message] * 4)
    assert (reply.status_code, error_of(reply)["param"]) == (400, "messages")


async def test_too_many_requests_of_one_key(doors: Doors) -> None:
    door = await doors.open(limits=Limits(requests_per_key_max=1, write_timeout_s=10))
    other = {"authorization": f"Bearer {door.keys.create('other').secret}"}
    door.backend.sampler = flood
    body = {"model": MODEL, "prompt": "x", "stream": True}
    async with door.http.stream("POST", "/v1/completions", json=body) as running:
        assert running.status_code == 200
        reply = await door.http.get("/v1/models")
        assert (reply.status_code, error_of(reply)["code"]) == (429, "rate_limit_exceeded")
        assert "retry-after" in reply.headers
        assert (await door.http.get("/v1/models", headers=other)).status_code == 200
    async with asyncio.timeout(5):
        await door.backend.all_closed.wait()
        while (await door.http.get("/v1/models")).status_code != 200:
            await asyncio.sleep(0.01)


async def test_too_many_requests_of_all(doors: Doors) -> None:
    door = await doors.open(limits=Limits(requests_max=1))
    other = {"authorization": f"Bearer {door.keys.create('other').secret}"}
    door.backend.sampler = flood
    body = {"model": MODEL, "prompt": "x", "stream": True}
    async with door.http.stream("POST", "/v1/completions", json=body):
        reply = await door.http.get("/v1/models", headers=other)
        assert (reply.status_code, error_of(reply)["code"]) == (503, "overloaded")


async def test_unexpected_errors_say_nothing(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Health:
        raise ValueError("a secret detail")

    door.backend.health = broken  # type: ignore[method-assign]
    reply = await door.chat()
    assert (reply.status_code, error_of(reply)["code"]) == (500, "internal_error")
    assert "secret" not in reply.text
    assert "a secret detail" in caplog.text


async def test_an_engine_fault_before_the_first_token(door: Door) -> None:
    from tests.support.scripted import fail

    door.backend.sampler = fail(EngineFault("the engine's process died"))
    for stream in (False, True):
        reply = await door.chat(stream=stream)
        assert (reply.status_code, error_of(reply)["code"]) == (500, "internal_error")
