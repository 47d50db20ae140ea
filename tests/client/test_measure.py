"""Measuring over real sockets: our gateway before a scripted ring, and servers that misbehave."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest
from tests.client.conftest import STATUS
from tests.support import hand_completions as hand
from tests.support.hand_completions import HandCompletions, hand_completions
from tests.support.scripted import ScriptedBackend, ScriptedText, fail, flood, sample_hashes

from atoll.api.app import create_app
from atoll.api.backend import ModelCard, StatusSource
from atoll.api.keys import KeyStore
from atoll.api.server import open_server, open_socket
from atoll.client import measure
from atoll.client.api import ApiClient, ApiFault
from atoll.client.chat import choose_model
from atoll.client.endpoint import Endpoint
from atoll.client.measure import Measurement, Server, warm_up
from atoll.client.workload import Room, Trial, Workload
from atoll.domain.errors import AtollError, BadRequest, LinkFault, RingDown
from atoll.domain.generation import GenerateRequest, Sampled
from atoll.gateway.status import GatewayStatus

pytestmark = pytest.mark.network

SMALL = Workload(prompt=16, generate=8, depths=(0, 4), streams=(1, 2), rounds=2)
ROWS = ["pp16", "tg8", "tg8 @ d4", "pp16 x2", "tg8 x2", "tg8 @ d4 x2"]


class _WideBackend(ScriptedBackend):
    """With a vocabulary as real models have."""

    @property
    def card(self) -> ModelCard:
        return replace(super().card, n_vocab=5000)


async def _paced(request: GenerateRequest) -> AsyncGenerator[Sampled, None]:
    """Slow enough for two answers to run at the same time."""
    async with aclosing(sample_hashes(request)) as samples:
        async for sampled in samples:
            await asyncio.sleep(0.004)
            yield sampled


@dataclass
class _Ring:
    client: ApiClient
    backend: ScriptedBackend
    status: GatewayStatus

    @property
    def model(self) -> str:
        return self.backend.card.name


@pytest.fixture
async def ring(tmp_path: Path) -> AsyncIterator[_Ring]:
    keys = KeyStore(tmp_path / "keys.json")
    secret = keys.create("test").secret
    backend = _WideBackend(sampler=_paced)
    status = StatusSource(GatewayStatus, lambda: found.status)
    app = create_app(backend, ScriptedText(), keys=keys, status=status)
    listener = open_socket("127.0.0.1", 0)
    # As uvloop has it, on which the gateway runs; else tokens come in lumps of 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    async with (
        open_server(app, listener, grace_s=1) as url,
        ApiClient(Endpoint.at(url, secret)) as client,
    ):
        found = _Ring(client, backend, msgspec.structs.replace(STATUS, active=0))
        yield found


def ignore(_what: str, _done: int, _total: int) -> None:
    """Nobody watches."""


async def test_every_row_in_every_round(ring: _Ring) -> None:
    seen: list[tuple[str, int, int]] = []
    measurement = Measurement(SMALL)
    await measurement.run(ring.client, ring.model, lambda *step: seen.append(step))
    assert measurement.complete
    rates = measurement.rates()
    assert [rate.test for rate in rates] == ROWS
    assert all(rate.rounds == 2 and len(rate.samples) == 2 for rate in rates)
    assert all(rate.tokens_per_s > 0 and rate.first_ms_p50 > 0 for rate in rates)
    assert [rate.token_ms_p50 is not None for rate in rates] == [row[0] == "t" for row in ROWS]
    assert seen[0] == ("warm-up", 0, 12)
    assert [what for what, _done, _total in seen[1:-1]] == ROWS * 2
    assert seen[-1] == ("done", 12, 12)


async def test_lengths_are_exact_and_prompts_new(ring: _Ring) -> None:
    await Measurement(SMALL).run(ring.client, ring.model, ignore)
    asked = ring.backend.requests
    sizes = [(len(request.prompt), request.max_tokens) for request in asked]
    once = [(16, 1), (1, 9), (4, 9)]
    both = [size for size in once for _stream in range(2)]
    assert sizes == [(16, 1), (1, 9), (1, 9), *once, *both, *once, *both]
    long = [request.prompt for request in asked if len(request.prompt) == 16]
    assert len(set(long)) == len(long)
    assert all(request.ignore_eos and request.sampling.temperature == 0 for request in asked)


async def test_what_the_gateway_tells(ring: _Ring) -> None:
    ring.status = STATUS
    measurement = Measurement(SMALL)
    await measurement.run(ring.client, ring.model, ignore)
    assert measurement.server == Server(
        ring.model, STATUS.version, "llama", "Q4_1", 30, 1, 2048, 8, 1
    )


async def test_what_does_not_fit_is_refused_before_anything_is_asked(ring: _Ring) -> None:
    for workload in (Workload(prompt=2048), Workload(depths=(4000,)), Workload(streams=(9,))):
        with pytest.raises(BadRequest):
            await Measurement(workload).run(ring.client, ring.model, ignore)
    assert ring.backend.requests == []


async def test_a_ring_that_is_not_up(ring: _Ring) -> None:
    ring.status = msgspec.structs.replace(STATUS, ready=False, reason="a node is missing")
    with pytest.raises(RingDown, match="not up: a node is missing"):
        await Measurement(SMALL).run(ring.client, ring.model, ignore)


async def test_a_ring_that_breaks_leaves_what_is_known(ring: _Ring) -> None:
    measurement = Measurement(SMALL)

    def break_later(_what: str, done: int, _total: int) -> None:
        if done == 8:
            ring.backend.sampler = fail(RingDown("a node is gone", hint="wait"), "so", " far")

    with pytest.raises(ApiFault, match="a node is gone"):
        await measurement.run(ring.client, ring.model, break_later)
    assert not measurement.complete
    assert [rate.rounds for rate in measurement.rates()] == [2, 2, 1, 1, 1, 1]


async def test_a_stop_is_a_stop_at_the_server_too(ring: _Ring) -> None:
    measurement = Measurement(SMALL)
    begun = asyncio.Event()

    def flood_later(_what: str, done: int, _total: int) -> None:
        if done == 3:
            ring.backend.sampler = flood
            begun.set()

    task = asyncio.get_running_loop().create_task(
        measurement.run(ring.client, ring.model, flood_later)
    )
    async with asyncio.timeout(10):
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if ring.backend.open:
            await ring.backend.all_closed.wait()
    assert [rate.test for rate in measurement.rates()] == ROWS[:3]


async def _run(
    server: HandCompletions, workload: Workload = SMALL, *, silence_s: float = 20.0
) -> Measurement:
    measurement = Measurement(workload)
    async with ApiClient(Endpoint.at(server.url), silence_s=silence_s) as client:
        await measurement.run(client, "shell", ignore)
    return measurement


@pytest.mark.parametrize(
    "status", [None, hand.OK + b"<html>", hand.OK + b"{}", hand.refusal("403 Forbidden", "no")]
)
async def test_servers_of_other_makes(status: bytes | None) -> None:
    async with hand_completions(status=status) as server:
        measurement = await _run(server)
    assert measurement.server == Server("shell")
    assert [rate.test for rate in measurement.rates()] == ROWS
    assert server.asked[0] == {
        "model": "shell",
        "prompt": server.asked[0]["prompt"],
        "max_tokens": 1,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_a_gateway_in_trouble_is_not_taken_for_another_make() -> None:
    async with hand_completions(status=hand.refusal("500 Oh", "out of order")) as server:
        with pytest.raises(ApiFault, match="out of order"):
            await _run(server)
    assert server.asked == []


LLAMA_SERVER = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel = sys.argv[1], 1024, 2
params.hostnames, params.port, params.cpuparams.n_threads = ["127.0.0.1"], 0, 1
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


@pytest.mark.engine
async def test_the_server_of_llama_cpp(demo_model: Path) -> None:
    llama = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c", LLAMA_SERVER, str(demo_model)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert llama.stdin is not None
    assert llama.stdout is not None
    try:
        async with asyncio.timeout(60):
            url = (await llama.stdout.readline()).decode().strip()
            async with ApiClient(Endpoint.at(url)) as client:
                measurement = Measurement(SMALL)
                model = await choose_model(client, None)
                await measurement.run(client, model, ignore)
            assert measurement.complete
            assert measurement.server == Server(model)
            assert [rate.test for rate in measurement.rates()] == ROWS
            llama.stdin.close()
            assert await llama.wait() == 0
    finally:
        if llama.returncode is None:
            llama.kill()
            await llama.wait()


BAD: list[tuple[hand.Answer, type[AtollError], str]] = [
    (hand.says(hand.refusal("503 Busy", "no place is free")), ApiFault, "no place is free"),
    (hand.says(hand.refusal("400 No", "ignore_eos is not known")), ApiFault, "not known"),
    (hand.says(b""), ApiFault, "connection"),
    (
        hand.says(hand.OK, hand.token(), hand.event(error={"message": "no power"})),
        ApiFault,
        "broke off: no power",
    ),
    (hand.says(hand.OK, hand.token()), ApiFault, "closed the connection"),
    (
        hand.says(hand.OK, hand.token(finish="stop"), hand.token(), hand.DONE),
        ApiFault,
        "tokens in place of",
    ),
]


@pytest.mark.parametrize(("answer", "kind", "problem"), BAD)
async def test_servers_that_misbehave(
    answer: hand.Answer, kind: type[AtollError], problem: str
) -> None:
    # The first four are warm-up and the first row.
    async with hand_completions(hand.after(4, answer)) as server:
        measurement = Measurement(SMALL)
        async with ApiClient(Endpoint.at(server.url)) as client:
            with pytest.raises(kind, match=problem):
                await measurement.run(client, "shell", ignore)
    assert [rate.test for rate in measurement.rates()] == ["pp16"]


async def test_a_silent_server() -> None:
    async with hand_completions(None) as server:
        with pytest.raises(ApiFault, match="did not answer in time"):
            await _run(server, silence_s=0.2)
        async with asyncio.timeout(10):
            await server.left.wait()


async def test_an_answer_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(_asked: hand.Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(hand.OK)
        while True:
            writer.write(hand.token() * 100)
            await writer.drain()

    monkeypatch.setattr(measure, "ANSWER_BYTES_MAX", 1 << 20)
    async with hand_completions(endless) as server:
        with pytest.raises(LinkFault, match="longer than"):
            await _run(server)
        async with asyncio.timeout(10):
            await server.left.wait()


async def test_a_server_with_one_place() -> None:
    async with hand_completions(hand.one_at_a_time()) as server:
        with pytest.raises(BadRequest, match="tg8 x2: the 2 answers never ran at the same time"):
            await _run(server, Workload(prompt=0, generate=8, depths=(0,), streams=(2,)))


async def test_a_server_that_does_not_stream() -> None:
    async def at_once(asked: hand.Asked, writer: asyncio.StreamWriter) -> None:
        n = asked["max_tokens"]
        end = hand.usage(len(asked["prompt"]), n) + hand.DONE
        writer.write(hand.OK + hand.token(" x" * n, "length") + end)

    async with hand_completions(at_once) as server:
        with pytest.raises(BadRequest, match="came in one piece"):
            await _run(server)


def test_what_was_not_begun_is_not_complete() -> None:
    measurement = Measurement(SMALL)
    assert not measurement.complete
    assert measurement.rates() == ()


def test_warm_up_is_short_and_of_each_kind() -> None:
    trials = Workload(prompt=512, generate=128, streams=(1, 4)).trials(Room())
    assert warm_up(trials) == [Trial("pp", 512), Trial("tg", 8, 0, 4)]
    assert warm_up([Trial("tg", 3)]) == [Trial("tg", 3)]
    assert warm_up([Trial("pp", 3)]) == [Trial("pp", 3)]
