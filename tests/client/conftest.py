"""The gateway's real web server before a scripted ring, and a client for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.scripted import ScriptedBackend, ScriptedText

from atoll.api.app import create_app
from atoll.api.backend import StatusSource
from atoll.api.keys import KeyStore
from atoll.api.server import open_server, open_socket
from atoll.client.api import ApiClient
from atoll.client.endpoint import Endpoint
from atoll.gateway.status import GatewayStatus, LapStatus, RingStatus, StageStatus

STATUS = GatewayStatus(
    version="0.1.0",
    model="tide",
    model_id="ab" * 32,
    architecture="llama",
    quantisation="Q4_1",
    n_layers=30,
    ready=True,
    reason="",
    streams=8,
    context=2048,
    active=1,
    waiting=0,
    nodes_missing=0,
    gateway_memory_bytes=200 << 20,
    ends=((0, 1), (29, 30)),
    rings=(
        RingStatus(
            ready=True,
            reason="",
            epoch=(3, 1),
            active=1,
            waiting=0,
            stages=(
                StageStatus(
                    name="reef",
                    node="cd" * 32,
                    address="127.0.0.1:9",
                    carrier="tls",
                    first=1,
                    last=29,
                    ready=True,
                    shard_bytes=50 << 20,
                    kv_bytes=10 << 20,
                    memory_bytes=90 << 20,
                    batches=10,
                    steps=8,
                    windows=12,
                    rows=30,
                    engine_ms=1.25,
                    convert_ms=0.0625,
                    pipe_ms=0.25,
                    node_ms=0.125,
                    sessions=1,
                    isolation_missing=("seccomp",),
                    device="CUDA0 (Great GPU)",
                ),
            ),
            lap=LapStatus(
                steps=9,
                overhead_ms=1.0,
                stages_ms=2.0,
                ends_ms=0.75,
                sampling_ms=0.25,
                ends_pipe_ms=0.1,
            ),
            ends_device="processor",
        ),
    ),
)


@dataclass
class Gateway:
    """The server, the ring behind it, and who may ask."""

    endpoint: Endpoint
    backend: ScriptedBackend
    client: ApiClient


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    keys = KeyStore(tmp_path / "keys.json")
    secret = keys.create("test").secret
    backend = ScriptedBackend()
    status = StatusSource(GatewayStatus, lambda: STATUS)
    app = create_app(backend, ScriptedText(), keys=keys, status=status)
    async with open_server(app, open_socket("127.0.0.1", 0), grace_s=1) as url:
        endpoint = Endpoint.at(url, secret)
        async with ApiClient(endpoint) as client:
            yield Gateway(endpoint, backend, client)
