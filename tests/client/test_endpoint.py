"""Which API is meant, and how it is told from others."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.api.test_server import write_certificate
from tests.support.scripted import ScriptedBackend, ScriptedText

from atoll.api.app import create_app
from atoll.api.keys import KeyStore
from atoll.api.server import open_server, open_socket
from atoll.client.api import ApiClient, ApiFault
from atoll.client.endpoint import Endpoint, choose_endpoint
from atoll.domain.errors import BadRequest, RingDown
from atoll.gateway.run_file import RunFile, kept_run_file
from atoll.net.home import held_home


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8642", "http://127.0.0.1:8642/", "http://127.0.0.1:8642/v1"],
)
def test_addresses_with_and_without_the_version(url: str) -> None:
    assert Endpoint.at(url).url == "http://127.0.0.1:8642"


def test_a_path_before_the_version_is_kept() -> None:
    assert Endpoint.at("https://example.org/llm/v1/").url == "https://example.org/llm"


@pytest.mark.parametrize(
    "url",
    ["", "example.org", "ftp://example.org", "http://", "http://x:port", "http://x/?a=1", "//x"],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(BadRequest, match="not the address"):
        Endpoint.at(url)


@pytest.mark.parametrize("key", ["atoll-\u00e9", "a\nb", "a\r\nHost: x"])
def test_a_key_that_no_header_can_carry_is_refused(key: str) -> None:
    with pytest.raises(BadRequest, match="API key") as caught:
        Endpoint.at("http://127.0.0.1:1", key)
    assert key not in str(caught.value)


def test_the_key_is_not_shown() -> None:
    assert "hush" not in repr(Endpoint.at("http://127.0.0.1:1", "hush"))


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:1", True),
        ("http://localhost", True),
        ("http://[::1]:1", True),
        ("http://192.0.2.1", False),
        ("https://example.org", False),
    ],
)
def test_which_addresses_are_this_machines(url: str, local: bool) -> None:
    assert Endpoint.at(url).is_local is local


def test_the_gateway_of_a_home(tmp_path: Path) -> None:
    with pytest.raises(RingDown, match="no gateway runs here"):
        choose_endpoint(None, "", tmp_path)
    mark = RunFile("http://127.0.0.1:5", 1, "tide", "local-key", "/certs/one.pem")
    with held_home(tmp_path, "gateway"), kept_run_file(tmp_path, mark):
        found = choose_endpoint(None, "", tmp_path)
        assert found == Endpoint("http://127.0.0.1:5", "local-key", Path("/certs/one.pem"))
        assert choose_endpoint(None, "mine", tmp_path).key == "mine"
        named = choose_endpoint("http://192.0.2.1", "", tmp_path)
        assert (named.url, named.key) == ("http://192.0.2.1", "")


@pytest.mark.network
async def test_the_gateways_own_certificate_is_the_one_accepted(tmp_path: Path) -> None:
    ours, others = tmp_path / "ours", tmp_path / "others"
    ours.mkdir()
    others.mkdir()
    tls, other = write_certificate(ours), write_certificate(others)
    app = create_app(ScriptedBackend(), ScriptedText(), keys=KeyStore(tmp_path / "keys.json"))
    async with open_server(app, open_socket("127.0.0.1", 0), tls=tls, grace_s=1) as url:
        # The certificate is for another name than the address; it is the one expected.
        async with ApiClient(Endpoint(url, "", tls.cert)) as client:
            assert (await client.health()).status == "ok"
        for stranger in (other.cert, None):
            async with ApiClient(Endpoint(url, "", stranger)) as client:
                with pytest.raises(ApiFault, match="cannot reach"):
                    await client.health()


def test_a_certificate_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ApiFault, match="cannot be used"):
        ApiClient(Endpoint("https://127.0.0.1:1", "", tmp_path / "none.pem"))
