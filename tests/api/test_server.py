"""Where the API may listen, and starting and stopping the web server."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.api.conftest import Doors
from tests.support.scripted import MODEL, ScriptedBackend, ScriptedText

from atoll.api.app import create_app
from atoll.api.keys import KeyStore
from atoll.api.server import BadBind, Tls, check_bind, open_server, open_socket
from atoll.domain.errors import RingDown
from atoll.domain.generation import GenerateRequest, Sampled

TLS = Tls(Path("cert.pem"), Path("key.pem"))


@pytest.fixture
def keys(tmp_path: Path) -> KeyStore:
    store = KeyStore(tmp_path / "keys.json")
    store.create("laptop")
    return store


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_nothing(host: str) -> None:
    check_bind(host, None, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "2001:db8::1"])
def test_other_addresses_need_tls_and_a_key(host: str, keys: KeyStore, tmp_path: Path) -> None:
    check_bind(host, TLS, keys)
    with pytest.raises(BadBind, match="needs TLS"):
        check_bind(host, None, keys)
    with pytest.raises(BadBind, match="no API key"):
        check_bind(host, TLS, KeyStore(tmp_path / "none.json"))
    with pytest.raises(BadBind, match="need an API key") as caught:
        check_bind(host, TLS, None)
    assert caught.value.hint


@pytest.mark.parametrize("host", ["no-such-host.invalid", "300.1.1.1", "a" * 300, "\x00"])
def test_what_is_no_address(host: str, keys: KeyStore) -> None:
    with pytest.raises(BadBind, match="not an address"):
        check_bind(host, TLS, keys)


@pytest.mark.network
def test_a_port_that_is_taken() -> None:
    with open_socket("127.0.0.1", 0) as first:
        first.listen()
        with pytest.raises(BadBind, match="cannot listen") as caught:
            open_socket("127.0.0.1", first.getsockname()[1])
    assert "--port" in caught.value.hint


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_does_not_exist(port: int) -> None:
    with pytest.raises(BadBind):
        open_socket("127.0.0.1", port)


def write_certificate(folder: Path) -> Tls:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    tls = Tls(folder / "cert.pem", folder / "key.pem")
    tls.cert.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    tls.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return tls


@pytest.mark.network
async def test_tls(tmp_path: Path, keys: KeyStore) -> None:
    tls = write_certificate(tmp_path)
    app = create_app(ScriptedBackend(), ScriptedText(), keys=keys)
    async with open_server(app, open_socket("127.0.0.1", 0), tls=tls) as url:
        assert url.startswith("https://")
        trust = ssl.create_default_context(cafile=str(tls.cert))
        async with httpx.AsyncClient(verify=trust) as client:
            reply = await client.get(url.replace("127.0.0.1", "localhost") + "/health")
            assert reply.status_code == 200


@pytest.mark.network
@pytest.mark.parametrize("what", ["missing", "nonsense", "another key"])
async def test_a_certificate_that_cannot_be_used(tmp_path: Path, keys: KeyStore, what: str) -> None:
    tls = write_certificate(tmp_path)
    if what == "missing":
        tls.cert.unlink()
    elif what == "nonsense":
        tls.cert.write_bytes(b"nonsense")
    else:
        (tmp_path / "other").mkdir()
        tls = Tls(tls.cert, write_certificate(tmp_path / "other").key)
    app = create_app(ScriptedBackend(), ScriptedText(), keys=keys)
    with open_socket("127.0.0.1", 0) as listener, pytest.raises(BadBind, match="certificate"):
        async with open_server(app, listener, tls=tls):
            raise AssertionError("it started")


@pytest.mark.network
async def test_what_the_block_raises_comes_out_as_it_is(keys: KeyStore) -> None:
    app = create_app(ScriptedBackend(), ScriptedText(), keys=keys)
    with pytest.raises(RingDown):
        async with open_server(app, open_socket("127.0.0.1", 0), grace_s=1):
            raise RingDown("a node left")


@pytest.mark.network
async def test_requests_in_progress_may_end(doors: Doors) -> None:
    door = await doors.open(grace_s=5)
    proceed = asyncio.Event()

    async def wait(_request: GenerateRequest) -> AsyncGenerator[Sampled, None]:
        yield Sampled(1, b"one")
        await proceed.wait()
        yield Sampled(2, b" two", "length")

    door.backend.sampler = wait
    body = {"model": MODEL, "prompt": "x", "stream": True}
    async with (
        door.http.stream("POST", "/v1/completions", json=body) as reply,
        asyncio.TaskGroup() as tasks,
    ):
        closing = tasks.create_task(doors.close_server(door), name="close-server")
        await asyncio.sleep(0.3)
        assert not closing.done()
        proceed.set()
        text = (await reply.aread()).decode()
    assert "two" in text
    assert "[DONE]" in text


@pytest.mark.network
async def test_what_outlives_the_grace_is_cut_off(doors: Doors) -> None:
    door = await doors.open(grace_s=1)

    async def stall(_request: GenerateRequest) -> AsyncGenerator[Sampled, None]:
        yield Sampled(1, b"one")
        await asyncio.Event().wait()

    door.backend.sampler = stall
    body = {"model": MODEL, "prompt": "x", "stream": True}
    async with door.http.stream("POST", "/v1/completions", json=body) as reply:
        async with asyncio.timeout(4):
            await doors.close_server(door)
        assert door.backend.open == 0
        with pytest.raises(httpx.HTTPError):
            await reply.aread()
    with pytest.raises(httpx.ConnectError):
        await door.http.get("/health")
