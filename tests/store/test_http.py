from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest
from tests.support.loopback import Site, serving

from atoll.domain.errors import PullFailed
from atoll.model.files import atomic_file
from atoll.store import disk, http
from atoll.store.http import download
from atoll.store.web import ATTEMPTS_MAX, Limits

pytestmark = pytest.mark.network

CONTENT = os.urandom(1 << 20)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def quick(bytes_max: int = 1 << 30) -> Limits:
    return Limits(bytes_max=bytes_max, backoff_s=0.0, wait=lambda _s: None)


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "x.part"


def test_a_file_comes_with_its_hash_and_progress(part: Path) -> None:
    told: list[tuple[int, int | None]] = []
    with serving(Site(CONTENT)) as site:
        digest = download(site.url, part, progress=lambda *now: told.append(now), limits=quick())
    assert digest == SHA256
    assert part.read_bytes() == CONTENT
    assert told[0] == (0, len(CONTENT))
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert site.seen[0]["accept-encoding"] == "identity"


@pytest.mark.parametrize("validator", ["etag", "last_modified", "hash only"])
def test_a_broken_connection_is_taken_up_where_it_broke(part: Path, validator: str) -> None:
    site = Site(CONTENT, etag="", breaks=3)
    sha256 = None
    if validator == "etag":
        site.etag = '"v1"'
    elif validator == "last_modified":
        site.last_modified = "Mon, 01 Jan 2024 00:00:00 GMT"
    else:
        sha256 = SHA256
    with serving(site):
        assert download(site.url, part, sha256=sha256, limits=quick()) == SHA256
    assert part.read_bytes() == CONTENT
    starts = [int(h["range"].removeprefix("bytes=").removesuffix("-")) for h in site.seen[1:]]
    assert starts == sorted(set(starts))
    assert starts[0] > 0
    assert {h.get("if-range", "") for h in site.seen[1:]} == {site.etag or site.last_modified}


def test_a_later_pull_goes_on_where_an_earlier_one_was_stopped(part: Path) -> None:
    class Stopped(Exception):
        pass

    def stop_half_way(done: int, _all: int | None) -> None:
        if done > len(CONTENT) // 2:
            raise Stopped

    with serving(Site(CONTENT)) as site:
        with pytest.raises(Stopped):
            download(site.url, part, progress=stop_half_way, limits=quick())
        assert part.stat().st_size > 0
        assert download(site.url, part, limits=quick()) == SHA256
    assert "range" in site.seen[1]
    assert part.read_bytes() == CONTENT


def test_a_finished_part_is_not_downloaded_again(part: Path) -> None:
    with serving(Site(CONTENT)) as site:
        download(site.url, part, limits=quick())
        assert download(site.url, part, limits=quick()) == SHA256
    assert site.seen[1]["range"] == f"bytes={len(CONTENT)}-"


def test_without_any_mark_of_the_content_it_starts_anew(part: Path) -> None:
    with serving(Site(CONTENT, etag="", breaks=1)) as site:
        assert download(site.url, part, limits=quick()) == SHA256
    assert "range" not in site.seen[1]


def test_a_weak_etag_is_no_mark(part: Path) -> None:
    with serving(Site(CONTENT, etag='W/"v1"', breaks=1)) as site:
        assert download(site.url, part, limits=quick()) == SHA256
    assert "range" not in site.seen[1]


def test_changed_content_is_not_mixed_with_the_old(part: Path) -> None:
    old = os.urandom(len(CONTENT))
    with serving(Site(old, breaks=1)) as site:

        def change() -> None:
            if len(site.seen) == 2:
                site.content, site.etag = CONTENT, '"two"'

        site.before = change
        assert download(site.url, part, limits=quick()) == SHA256
    assert part.read_bytes() == CONTENT


@pytest.mark.parametrize("mark", ["etag", "last_modified", "size"])
def test_changed_content_is_noticed_where_the_server_does_not_heed_if_range(
    part: Path, mark: str
) -> None:
    """By its mark, or by its size where the mark is missing in partial answers."""
    old = os.urandom(len(CONTENT))
    site = Site(old, breaks=1, believes_if_range=False)
    if mark == "last_modified":
        site.etag, site.last_modified = "", "Mon, 01 Jan 2024 00:00:00 GMT"

    def change() -> None:
        if len(site.seen) == 2:
            site.content = CONTENT
            if mark == "etag":
                site.etag = '"two"'
            elif mark == "last_modified":
                site.last_modified = "Tue, 02 Jan 2024 00:00:00 GMT"
            else:
                site.content, site.etag = CONTENT[:-1], ""

    site.before = change
    with serving(site):
        digest = download(site.url, part, limits=quick())
    assert digest == hashlib.sha256(site.content).hexdigest()
    assert part.read_bytes() == site.content


class Stopped(BaseException):
    """The process ends here."""


def test_a_pull_that_ends_as_new_content_begins_leaves_none_of_the_old(
    part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop_half_way(done: int, _all: int | None) -> None:
        if done > len(CONTENT) // 2:
            raise Stopped

    @contextmanager
    def stop_afterwards(path: Path, *, mode: int) -> Iterator[BinaryIO]:
        with atomic_file(path, mode=mode) as file:
            yield file
        raise Stopped

    with serving(Site(os.urandom(len(CONTENT)))) as site:
        with pytest.raises(Stopped):
            download(site.url, part, progress=stop_half_way, limits=quick())
        site.content, site.etag = CONTENT, '"two"'
        with monkeypatch.context() as patch:
            patch.setattr(http, "atomic_file", stop_afterwards)
            with pytest.raises(Stopped):
                download(site.url, part, limits=quick())
        assert download(site.url, part, limits=quick()) == SHA256
    assert part.read_bytes() == CONTENT


def test_content_that_became_shorter_starts_anew(part: Path) -> None:
    with serving(Site(CONTENT + CONTENT, etag="", breaks=1)) as site:

        def change() -> None:
            if len(site.seen) == 2:
                site.content = CONTENT[:1000]

        site.before = change
        wanted = hashlib.sha256(CONTENT[:1000]).hexdigest()
        assert download(site.url, part, sha256=wanted, limits=quick()) == wanted


def test_a_server_without_ranges_serves_from_the_start(part: Path) -> None:
    with serving(Site(CONTENT, ranges=False, breaks=1)) as site:
        assert download(site.url, part, limits=quick()) == SHA256


def test_a_server_that_sends_another_range_is_not_believed(part: Path) -> None:
    with serving(Site(CONTENT, breaks=1, wrong_range=True)) as site:
        assert download(site.url, part, limits=quick()) == SHA256
    assert part.read_bytes() == CONTENT


@pytest.mark.parametrize("said", ["bytes {huge}-9/10", "bytes 0-9/{huge}"])
def test_numbers_without_end_are_no_sizes(part: Path, said: str) -> None:
    """What Python would refuse to read as a number; the partial answer is not believed."""
    site = Site(CONTENT, breaks=1)
    lie = {"Content-Range": said.format(huge="9" * 5000)}

    def lie_once() -> None:
        site.headers = lie if len(site.seen) == 2 else {}

    site.before = lie_once
    with serving(site):
        assert download(site.url, part, limits=quick()) == SHA256
    assert part.read_bytes() == CONTENT


def test_a_stream_without_length_is_taken(part: Path) -> None:
    with serving(Site(CONTENT, lengths=False)) as site:
        assert download(site.url, part, limits=quick()) == SHA256


def test_passing_trouble_is_waited_out(part: Path) -> None:
    waits: list[float] = []
    limits = Limits(backoff_s=0.5, wait=waits.append)
    with serving(Site(CONTENT, statuses=[503, 429, 500])) as site:
        assert download(site.url, part, limits=limits) == SHA256
    assert waits == [0.5, 1.0, 2.0]


def test_lasting_trouble_is_given_up(part: Path) -> None:
    with (
        serving(Site(CONTENT, statuses=[503] * 50)) as site,
        pytest.raises(PullFailed, match=r"broke off 6 times.*503"),
    ):
        download(site.url, part, limits=quick())
    assert len(site.seen) == ATTEMPTS_MAX


def test_nobody_there_is_given_up(part: Path) -> None:
    with serving(Site(CONTENT)) as site:
        url = site.url
    with pytest.raises(PullFailed, match="check the network"):
        download(url, part, limits=quick())


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 418])
def test_a_refusal_is_final(part: Path, status: int) -> None:
    with (
        serving(Site(CONTENT, statuses=[status])) as site,
        pytest.raises(PullFailed, match=f"answers {status}"),
    ):
        download(site.url, part, limits=quick())
    assert len(site.seen) == 1


def test_the_wrong_hash_leaves_nothing(part: Path) -> None:
    with serving(Site(CONTENT)) as site, pytest.raises(PullFailed, match="not the wanted 0000"):
        download(site.url, part, sha256="0" * 64, limits=quick())
    assert list(part.parent.iterdir()) == []


@pytest.mark.parametrize("lengths", [True, False])
def test_too_much_is_refused(part: Path, lengths: bool) -> None:
    with (
        serving(Site(CONTENT, lengths=lengths)) as site,
        pytest.raises(PullFailed, match=r"at most 5000|than the 5000 bytes"),
    ):
        download(site.url, part, limits=quick(bytes_max=5000))
    assert list(part.parent.iterdir()) == []


@pytest.mark.parametrize("lengths", [True, False])
def test_a_full_disk_is_told_before_the_download(
    part: Path, monkeypatch: pytest.MonkeyPatch, lengths: bool
) -> None:
    monkeypatch.setattr(disk, "DISK_SPARE_BYTES", 2**62)
    with (
        serving(Site(CONTENT, lengths=lengths)) as site,
        pytest.raises(PullFailed, match="do not fit"),
    ):
        download(site.url, part, limits=quick())
    assert not part.exists()


def test_a_disk_that_fills_up_ends_a_stream_without_length(
    part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk has room at first; half of the content later somebody else took it."""
    steps = 8
    monkeypatch.setattr(http, "ROOM_STEP_BYTES", len(CONTENT) // steps)
    told: list[int] = []

    def take_the_room(done: int, _all: int | None) -> None:
        told.append(done)
        if done > len(CONTENT) // 2:
            monkeypatch.setattr(disk, "DISK_SPARE_BYTES", 2**62)

    with (
        serving(Site(CONTENT, lengths=False)) as site,
        pytest.raises(PullFailed, match="do not fit"),
    ):
        download(site.url, part, progress=take_the_room, limits=quick())
    assert len(CONTENT) // 2 < told[-1] < len(CONTENT)
    assert list(part.parent.iterdir()) == []


def test_compressed_answers_are_refused(part: Path) -> None:
    site = Site(CONTENT, headers={"Content-Encoding": "gzip"})
    with serving(site), pytest.raises(PullFailed, match="compressed"):
        download(site.url, part, limits=quick())


def test_redirects_are_followed_but_not_for_ever(part: Path) -> None:
    with serving(Site(CONTENT)) as site:
        base = site.url.removesuffix("/model.gguf")
        site.redirects = {"/model.gguf": "/b", "/loop": "/loop"}
        assert download(site.url, part, limits=quick()) == SHA256
        with pytest.raises(PullFailed, match="redirects more than 8 times"):
            download(f"{base}/loop", part, limits=quick())


def test_changed_content_is_noticed_even_where_the_server_knows_no_if_range(part: Path) -> None:
    old = os.urandom(len(CONTENT))
    with serving(Site(old, breaks=1, believes_if_range=False)) as site:

        def change() -> None:
            if len(site.seen) == 2:
                site.content, site.etag = CONTENT, '"two"'

        site.before = change
        assert download(site.url, part, limits=quick()) == SHA256


def test_a_server_that_falls_silent_is_asked_again(part: Path) -> None:
    limits = Limits(backoff_s=0.0, wait=lambda _s: None, silence_s=0.2)
    with serving(Site(CONTENT, stalls=2)) as site:
        assert download(site.url, part, limits=limits) == SHA256
    assert "range" not in site.seen[0]
    assert len(site.seen) == 3


@pytest.mark.parametrize("said", [10, -10])
def test_a_wrong_length_gives_no_file_of_the_wanted_hash(part: Path, said: int) -> None:
    lie = {"Content-Length": str(len(CONTENT) + said)}
    with serving(Site(CONTENT, lengths=False, headers=lie)) as site:
        if said > 0:
            assert download(site.url, part, sha256=SHA256, limits=quick()) == SHA256
        else:
            with pytest.raises(PullFailed, match="not the wanted"):
                download(site.url, part, sha256=SHA256, limits=quick())
