"""Requests to servers that are not trusted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from tests.support.loopback import Site, answering, send_head, serving

from atoll.domain.errors import PullFailed
from atoll.store.http import download
from atoll.store.web import (
    RETRY_AFTER_S_MAX,
    Address,
    Limits,
    Unreachable,
    check_url,
    follow,
    open_client,
)

pytestmark = pytest.mark.network

CONTENT = b"content"
TOKEN = "secret-token"


def quick() -> Limits:
    return Limits(backoff_s=0.0, wait=lambda _s: None)


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "x.part"


@pytest.mark.parametrize("target", ["http://192.0.2.1/x", "ftp://127.0.0.1/x", "file:///etc/x"])
def test_a_redirect_cannot_lead_off_https(part: Path, target: str) -> None:
    site = Site(CONTENT, redirects={"/model.gguf": target})
    with serving(site), pytest.raises(PullFailed):
        download(site.url, part, limits=quick())
    assert not part.exists()


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/m.gguf",
        "ftp://example.org/m.gguf",
        "https:///m.gguf",
        "https://[::1/m",
        "https://example.org:99999/m",
        "http://127.0.0.1.example.org/m",
    ],
)
def test_only_https_and_loopback_are_addresses(url: str) -> None:
    with pytest.raises(PullFailed):
        check_url(url)


@pytest.mark.parametrize("url", ["https://example.org/m", "http://127.0.0.1:1/m", "http://[::1]/"])
def test_https_and_loopback_are_taken(url: str) -> None:
    check_url(url)


def test_a_token_goes_to_its_own_host_only() -> None:
    with serving(Site(CONTENT)) as elsewhere, serving(Site(CONTENT)) as home:
        home.redirects = {"/model.gguf": "/b", "/b": elsewhere.url}
        with open_client(Limits()) as client:
            response = follow(client, Address(home.url, TOKEN), {"Range": "bytes=1-"})
            response.close()
    assert [h.get("authorization") for h in home.seen] == [f"Bearer {TOKEN}"] * 2
    assert "authorization" not in elsewhere.seen[0]
    assert elsewhere.seen[0]["range"] == "bytes=1-"


def test_a_token_does_not_come_back_by_another_host() -> None:
    """Home, elsewhere, home again: it is our own host, so the token is fine there."""
    with serving(Site(CONTENT)) as elsewhere, serving(Site(CONTENT)) as home:
        base = home.url.removesuffix("/model.gguf")
        home.redirects = {"/model.gguf": elsewhere.url}
        elsewhere.redirects = {"/model.gguf": f"{base}/end"}
        with open_client(Limits()) as client:
            follow(client, Address(home.url, TOKEN), {}).close()
    assert "authorization" not in elsewhere.seen[0]
    assert home.seen[-1]["authorization"] == f"Bearer {TOKEN}"


def test_a_token_is_not_shown() -> None:
    address = Address("https://example.org/m", TOKEN)
    assert TOKEN not in f"{address} {address!r}"


def test_a_redirect_off_the_host_can_be_left_alone() -> None:
    with serving(Site(CONTENT)) as elsewhere, serving(Site(CONTENT)) as home:
        home.redirects = {"/model.gguf": elsewhere.url}
        with open_client(Limits()) as client:
            response = follow(client, Address(home.url), {}, method="HEAD", leave_host=False)
            response.close()
    assert response.headers["location"] == elsewhere.url
    assert elsewhere.seen == []


def test_a_refusal_of_another_host_is_told_as_such(part: Path) -> None:
    with serving(Site(CONTENT, statuses=[403])) as elsewhere, serving(Site(CONTENT)) as home:
        home.redirects = {"/model.gguf": elsewhere.url}
        mine = Address(home.url, refusal=lambda _status, _headers: PullFailed("mine"))
        with pytest.raises(Unreachable, match=r"where http.* leads, answers 403"):
            download(mine, part, limits=quick())


def test_retry_after_is_honoured(part: Path) -> None:
    waits: list[float] = []
    site = Site(CONTENT, statuses=[429, 503], status_headers={"Retry-After": "7"})
    with serving(site):
        download(site.url, part, limits=Limits(backoff_s=0.5, wait=waits.append))
    assert waits == [7.0, 7.0]


def test_a_short_retry_after_does_not_shorten_our_own_wait(part: Path) -> None:
    waits: list[float] = []
    site = Site(CONTENT, statuses=[503, 503, 503], status_headers={"Retry-After": "1"})
    with serving(site):
        download(site.url, part, limits=Limits(backoff_s=2.0, wait=waits.append))
    assert waits == [2.0, 4.0, 8.0]


def test_retry_after_may_be_a_date(part: Path) -> None:
    waits: list[float] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if not waits:
            at = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
            send_head(handler, 429, {"Retry-After": at, "Content-Length": "0"})
            return
        send_head(handler, 200, {"Content-Length": str(len(CONTENT))})
        handler.wfile.write(CONTENT)

    with answering(answer) as base:
        download(f"{base}/m", part, limits=Limits(wait=waits.append))
    assert 35 < waits[0] <= 40


@pytest.mark.parametrize("text", ["soon", "-3", "", "1e9", "Mon, 99 Foo"])
def test_a_senseless_retry_after_is_passed_over(part: Path, text: str) -> None:
    waits: list[float] = []
    site = Site(CONTENT, statuses=[429], status_headers={"Retry-After": text})
    with serving(site):
        download(site.url, part, limits=Limits(backoff_s=0.5, wait=waits.append))
    assert waits == [0.5]


def test_nobody_waits_for_hours(part: Path) -> None:
    waits: list[float] = []
    asked = {"Retry-After": str(int(RETRY_AFTER_S_MAX) + 1)}
    site = Site(CONTENT, statuses=[429], status_headers=asked)
    with serving(site), pytest.raises(Unreachable, match="left alone for 121 s"):
        download(site.url, part, limits=Limits(wait=waits.append))
    assert waits == []
    assert len(site.seen) == 1
