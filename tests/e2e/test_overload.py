"""A crowded ring: who is served, who is refused, and what those leave behind who go away."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
from collections.abc import AsyncIterator
from functools import partial
from urllib.parse import urlsplit

import httpx
import pytest
import pytest_asyncio
from tests.support.rings import GREEDY, Ring, open_ring, wait_until

from atoll.api.allowance import Allowance
from atoll.api.keys import KEYS_FILE, KeyStore
from atoll.api.server import open_socket
from atoll.domain.errors import DeadlineExceeded, Overloaded, SlowReader
from atoll.domain.generation import GenerateRequest
from atoll.gateway.options import RingOptions
from atoll.gateway.ring_driver import RingDriver
from atoll.store.layout import FoundModel, Store

pytestmark = [
    pytest.mark.engine,
    pytest.mark.network,
    pytest.mark.asyncio(loop_scope="module"),
]

STREAMS = WAITING = 4
CONTEXT = 512
LINGER_NONE = struct.pack("ii", 1, 0)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ring(small: FoundModel, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ring]:
    """Four streams, and a line for four more."""
    folder = tmp_path_factory.mktemp("crowded")
    options = RingOptions(
        nodes=2,
        streams=STREAMS,
        waiting=WAITING,
        context=CONTEXT,
        rows_max=64,
        chunk_rows=64,
        spin=1000,
    )
    with pytest.MonkeyPatch.context() as patch:
        # So that a client which does not read is noticed after some kilobytes.
        patch.setattr("atoll.gateway.serve.open_socket", _open_narrow_socket)
        async with open_ring(small, Store(folder / "store"), folder, options) as ring:
            yield ring


def _open_narrow_socket(host: str, port: int) -> socket.socket:
    listener = open_socket(host, port)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    return listener


def driver_of(ring: Ring) -> RingDriver:
    driver = ring.gateway.conductor.rings[0].driver
    assert driver is not None
    return driver


def asks(
    tokens: int, *, group: str = "", priority: int = 0, deadline_s: float | None = None
) -> GenerateRequest:
    return GenerateRequest(
        (3, 4, 5),
        tokens,
        GREEDY,
        ignore_eos=True,
        group=group,
        priority=priority,
        deadline_s=deadline_s,
    )


async def first_tokens(ring: Ring, name: str, request: GenerateRequest, order: list[str]) -> None:
    count = 0
    async for _ in ring.gateway.conductor.generate(request):
        if not count:
            order.append(name)
        count += 1
    assert count == request.max_tokens


async def post(ring: Ring, max_tokens: int, **fields: object) -> httpx.Response:
    asked = {"model": ring.name, "prompt": "ab", "max_tokens": max_tokens, "ignore_eos": True}
    return await ring.http.post("/v1/completions", json=asked | fields)


async def test_ten_times_as_many_as_there_is_room_for(ring: Ring) -> None:
    async with asyncio.timeout(60):
        replies = await asyncio.gather(*(post(ring, 40) for _ in range(10 * STREAMS)))
    codes = [reply.status_code for reply in replies]
    served = [reply for reply in replies if reply.status_code == 200]
    refused = [reply for reply in replies if reply.status_code != 200]
    assert len(served) >= STREAMS + WAITING, codes
    assert refused
    for reply in refused:
        # One key may have 32 requests in progress, and the ring is full before.
        assert reply.json()["error"]["code"] in ("overloaded", "rate_limit_exceeded")
        assert int(reply.headers["retry-after"]) >= 1
    for reply in served:
        assert reply.json()["usage"]["completion_tokens"] == 40
    await ring.wait_idle()


async def test_higher_priorities_go_first_and_keys_in_turns(ring: Ring) -> None:
    order: list[str] = []
    waiting = [("a1", "a", 0), ("a2", "a", 0), ("b", "b", 0), ("high", "c", 1)]
    async with asyncio.TaskGroup() as tasks:
        for number in range(STREAMS):
            request = asks(80 + 60 * number, group="first")
            tasks.create_task(first_tokens(ring, "first", request, order))
        await wait_until(lambda: len(order) == STREAMS, what="the first four")
        for name, group, priority in waiting:
            request = asks(100, group=group, priority=priority)
            tasks.create_task(first_tokens(ring, name, request, order))
            await wait_until(partial(_is_in, ring, name, order), what=name)
    assert order == ["first"] * STREAMS + ["high", "a1", "b", "a2"]
    await ring.wait_idle()


def _is_in(ring: Ring, name: str, order: list[str]) -> bool:
    """Whether one of the test above has been begun or waits."""
    groups = [waiting.request.group for waiting in driver_of(ring).line]
    waits = {"a1": "a" in groups, "a2": groups.count("a") == 2, "b": "b" in groups}
    return name in order or waits.get(name, "c" in groups)


async def test_a_deadline_ends_what_runs_past_it(ring: Ring) -> None:
    with pytest.raises(DeadlineExceeded):
        async for _ in ring.gateway.conductor.generate(asks(500, deadline_s=0.05)):
            pass
    await ring.wait_idle()


async def test_a_deadline_that_cannot_be_met_is_refused_before_anything_is_computed(
    ring: Ring,
) -> None:
    order: list[str] = []
    async with asyncio.TaskGroup() as tasks:
        for _ in range(STREAMS):
            tasks.create_task(first_tokens(ring, "x", asks(400), order))
        await wait_until(lambda: len(order) == STREAMS, what="four streams")
        refused = await post(ring, 400, deadline_s=0.01)
        late = await ring.http.post(
            "/v1/completions",
            json={"model": ring.name, "prompt": "ab", "max_tokens": 400},
            headers={"x-atoll-deadline-s": "0.01"},
        )
        admitted = await post(ring, 4, deadline_s=600)
    for reply in (refused, late):
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "overloaded")
        assert int(reply.headers["retry-after"]) >= 1
    assert admitted.status_code == 200
    await ring.wait_idle()


async def test_a_key_has_what_it_is_allowed(ring: Ring) -> None:
    keys = KeyStore(ring.folder / "gateway" / KEYS_FILE)
    secret = keys.create("small", Allowance(streams=1, tokens_per_minute=60)).secret
    headers = {"authorization": f"Bearer {secret}"}
    asked = {"model": ring.name, "prompt": "ab", "max_tokens": 100, "ignore_eos": True}

    async def ask() -> httpx.Response:
        return await ring.http.post("/v1/completions", json=asked, headers=headers)

    first, second = await asyncio.gather(ask(), ask())
    assert sorted([first.status_code, second.status_code]) == [200, 429]
    spent = await ask()
    error = spent.json()["error"]
    assert (spent.status_code, error["code"]) == (429, "rate_limit_exceeded")
    assert "tokens a minute" in error["message"]
    assert int(spent.headers["retry-after"]) > 10
    assert (await post(ring, 4)).status_code == 200
    await ring.wait_idle()


async def test_a_stream_that_nobody_reads_is_paused_and_goes_on(
    ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = driver_of(ring)
    monkeypatch.setattr(driver.brakes, "_unread_max", 8)
    whole = [s.token async for s in ring.gateway.conductor.generate(asks(200))]
    tokens = ring.gateway.conductor.generate(asks(200))
    got = [(await anext(tokens)).token]
    await wait_until(lambda: driver.brakes.held == 1, what="the pause")
    # Others are served while it waits, and the ring is not taken for stuck.
    other = [s.token async for s in ring.gateway.conductor.generate(asks(200))]
    assert driver.brakes.held == 1
    got += [sampled.token async for sampled in tokens]
    assert got == whole == other
    assert driver.brakes.held == 0
    await ring.wait_idle()


async def test_a_stream_that_nobody_reads_for_long_gives_its_slot_back(
    ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = driver_of(ring)
    monkeypatch.setattr(driver.brakes, "_unread_max", 8)
    monkeypatch.setattr(driver.brakes, "_held_s_max", 0.2)
    tokens = ring.gateway.conductor.generate(asks(400))
    await anext(tokens)
    await wait_until(lambda: driver.active == 0, what="the slot")
    got: list[int] = []

    async def read_on() -> None:
        async for sampled in tokens:
            got.append(sampled.token)

    with pytest.raises(SlowReader):
        await read_on()
    assert len(got) < 100
    await ring.wait_idle()


async def test_a_socket_that_is_not_read_gives_its_slots_back(
    ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What queue, server and system hold is bounded; then its generations are paused and end."""
    driver = driver_of(ring)
    monkeypatch.setattr(driver.brakes, "_unread_max", 8)
    monkeypatch.setattr(driver.brakes, "_held_s_max", 0.2)
    # Each token comes with twenty others, so that the buffers are full soon.
    head, body = raw_chat(ring, max_tokens=400, n=STREAMS, logprobs=True, top_logprobs=20)
    with connect(ring, receive_buffer_bytes=4096) as sock:
        await asyncio.get_running_loop().sock_sendall(sock, head + body)
        await wait_until(lambda: driver.active == STREAMS, what="its streams")
        await wait_until(lambda: driver.active == 0, timeout_s=60, what="its slots")
        answer = b""
        async with asyncio.timeout(30):
            while part := await asyncio.get_running_loop().sock_recv(sock, 1 << 16):
                answer += part
                if answer.endswith(b"0\r\n\r\n"):
                    break
    assert b"slow_reader" in answer
    assert b"[DONE]" not in answer
    assert (await post(ring, 4)).status_code == 200
    await ring.wait_idle()


async def test_clients_that_leave_at_any_moment_leave_nothing_behind(ring: Ring) -> None:
    rng = random.Random(5)
    quiet = await ring.tokens((7, 8, 9), 60)
    limit = asyncio.Semaphore(3)

    async def leave() -> None:
        head, body = raw_chat(ring, max_tokens=60, n=1)
        async with limit:
            with connect(ring) as sock:
                whole = head + body
                sent = rng.choice((0, rng.randrange(len(head)), rng.randrange(len(whole)), None))
                await asyncio.get_running_loop().sock_sendall(sock, whole[:sent])
                if sent is None and rng.random() < 0.5:
                    await asyncio.get_running_loop().sock_recv(sock, 400)
                else:
                    await asyncio.sleep(rng.uniform(0, 0.05))
                if rng.random() < 0.5:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(60):
            tasks.create_task(leave())
        steady = [await ring.tokens((7, 8, 9), 60) for _ in range(3)]
    assert steady == [quiet] * 3
    await ring.wait_idle()


def raw_chat(ring: Ring, **fields: object) -> tuple[bytes, bytes]:
    """Head and body of a streaming request."""
    asked = {"model": ring.name, "messages": [{"role": "user", "content": "ab"}], "stream": True}
    body = json.dumps(asked | {"ignore_eos": True} | fields).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {ring.secret}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode(), body


def connect(ring: Ring, receive_buffer_bytes: int = 65536) -> socket.socket:
    address = urlsplit(ring.gateway.url)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    sock.connect((address.hostname, address.port))
    sock.setblocking(False)
    return sock


async def test_a_full_ring_says_so_before_it_reads(ring: Ring) -> None:
    order: list[str] = []
    async with asyncio.TaskGroup() as tasks:
        for number in range(STREAMS + WAITING):
            # Each of a key of its own: of one that has more of the line another takes a place.
            request = asks(100, group=f"key-{number}")
            tasks.create_task(first_tokens(ring, "x", request, order))
        await wait_until(lambda: driver_of(ring).waiting == WAITING, what="the line")
        reply = await ring.http.post(
            "/v1/completions", content=b"no JSON", headers={"content-type": "application/json"}
        )
        with pytest.raises(Overloaded):
            await anext(ring.gateway.conductor.generate(asks(4)))
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "overloaded")
    assert int(reply.headers["retry-after"]) >= 1
    await ring.wait_idle()


async def test_the_last_position_of_the_context_can_be_used(ring: Ring) -> None:
    request = GenerateRequest((10,) * (CONTEXT - 4), 100, GREEDY, ignore_eos=True)
    got = [s async for s in ring.gateway.conductor.generate(request)]
    assert got[-1].finish == "length"
    assert len(got) == 5
    await ring.wait_idle()
