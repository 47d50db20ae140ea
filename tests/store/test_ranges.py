"""Parts of a file, from servers that serve them well, badly, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.support.loopback import Site, serving

from atoll.domain.errors import PullFailed
from atoll.store.ranges import ContentChanged, FileIdentity, ReadAhead, WebFile
from atoll.store.web import ATTEMPTS_MAX, Address, Limits, Unreachable

pytestmark = pytest.mark.network

CONTENT = os.urandom(1 << 20)


def quick(silence_s: float = 30.0) -> Limits:
    return Limits(backoff_s=0.0, wait=lambda _s: None, silence_s=silence_s)


def open_file(site: Site, identity: FileIdentity | None = None) -> WebFile:
    return WebFile(Address(site.url), quick(0.2), identity)


def test_only_what_is_asked_for_is_fetched() -> None:
    with serving(Site(CONTENT)) as site, open_file(site) as file:
        assert file.read(1000, 500) == CONTENT[1000:1500]
        assert file.identity == FileIdentity(len(CONTENT), '"one"')
        assert file.size_bytes == len(CONTENT)
        assert file.read(len(CONTENT) - 10, 100) == CONTENT[-10:]
        assert file.read(len(CONTENT), 100) == b""
        assert file.fetched_bytes == 510
    assert [h["range"] for h in site.seen] == ["bytes=1000-1499", "bytes=1048566-1048575"]
    assert "if-range" not in site.seen[0]
    assert site.seen[1]["if-range"] == '"one"'


@pytest.mark.parametrize("trouble", ["breaks", "stalls"])
def test_a_broken_connection_is_taken_up_where_it_broke(trouble: str) -> None:
    site = Site(CONTENT, **{trouble: 3})  # type: ignore[arg-type]
    with serving(site), open_file(site) as file:
        assert file.read(100, 100_000) == CONTENT[100:100_100]
        assert file.fetched_bytes == 100_000
    starts = [int(h["range"].removeprefix("bytes=").partition("-")[0]) for h in site.seen]
    assert starts == sorted(set(starts))
    assert len(starts) == 4


def test_short_answers_are_completed() -> None:
    with serving(Site(CONTENT, short_bytes=300)) as site, open_file(site) as file:
        assert file.read(5, 1000) == CONTENT[5:1005]
    assert len(site.seen) == 4


def test_passing_trouble_is_waited_out_and_lasting_trouble_given_up() -> None:
    with serving(Site(CONTENT, statuses=[503, 429])) as site, open_file(site) as file:
        assert file.read(0, 10) == CONTENT[:10]
        site.statuses = [500] * 50
        with pytest.raises(Unreachable, match="broke off 6 times"):
            file.read(0, 10)
    assert len(site.seen) == 3 + ATTEMPTS_MAX


def test_a_server_without_ranges_is_told_apart_at_once() -> None:
    with serving(Site(CONTENT, ranges=False)) as site, open_file(site) as file:
        with pytest.raises(PullFailed, match="serves no parts of files") as caught:
            file.read(0, 10)
        assert "atoll pull" in caught.value.hint
        assert file.fetched_bytes == 0
    assert len(site.seen) == 1


def test_another_range_is_not_believed() -> None:
    with (
        serving(Site(CONTENT, wrong_range=True)) as site,
        open_file(site) as file,
        pytest.raises(Unreachable, match="another range"),
    ):
        file.read(10, 10)


@pytest.mark.parametrize("believes", [True, False])
def test_another_file_is_noticed_between_two_ranges(believes: bool) -> None:
    with serving(Site(CONTENT, believes_if_range=believes)) as site, open_file(site) as file:
        file.read(0, 10)
        site.etag = '"two"'
        with pytest.raises(ContentChanged):
            file.read(10, 10)


def test_another_file_is_noticed_by_its_size() -> None:
    with serving(Site(CONTENT, etag="")) as site, open_file(site) as file:
        file.read(0, 10)
        site.content = CONTENT[:-1]
        with pytest.raises(ContentChanged):
            file.read(10, 10)
        site.content = b"x" * 5
        with pytest.raises(ContentChanged):
            file.read(10, 10)


def test_another_file_than_an_earlier_run_saw_is_noticed() -> None:
    with (
        serving(Site(CONTENT)) as site,
        open_file(site, FileIdentity(len(CONTENT), '"zero"')) as file,
        pytest.raises(ContentChanged),
    ):
        file.read(0, 10)


@pytest.mark.parametrize(
    ("site", "word"),
    [
        (Site(b""), "holds nothing"),
        (Site(CONTENT, statuses=[404]), "answers 404"),
        (Site(CONTENT, headers={"Content-Encoding": "gzip"}), "compressed"),
    ],
)
def test_final_refusals(site: Site, word: str) -> None:
    with serving(site), open_file(site) as file, pytest.raises(PullFailed, match=word):
        file.read(0, 10)
    assert len(site.seen) == 1


def test_more_than_was_asked_for_is_refused() -> None:
    lie = {"Content-Length": "5000"}
    site = Site(CONTENT, lengths=False, headers=lie, sends_bytes=5000)
    with serving(site), open_file(site) as file, pytest.raises(PullFailed, match="more than"):
        file.read(0, 10)


def test_a_run_is_one_request_and_its_gaps_are_dropped() -> None:
    with serving(Site(CONTENT)) as site, open_file(site) as file:
        file.read(0, 1)
        source = ReadAhead(file, [(100, 5000), (90_000, 90_010)])
        assert source.size_bytes == len(CONTENT)
        assert source.read(100, 50) == CONTENT[100:150]
        assert source.read(150, 1000) == CONTENT[150:1150]
        assert source.read(4000, 1000) == CONTENT[4000:5000]
        assert source.read(90_000, 10) == CONTENT[90_000:90_010]
    assert [h["range"] for h in site.seen[1:]] == ["bytes=100-4999", "bytes=90000-90009"]


def test_a_run_can_be_entered_in_the_middle(tmp_path: Path) -> None:
    with serving(Site(CONTENT)) as site, open_file(site) as file:
        source = ReadAhead(file, [(100, 5000)])
        assert source.read(3000, 10) == CONTENT[3000:3010]
    assert site.seen[0]["range"] == "bytes=3000-4999"
