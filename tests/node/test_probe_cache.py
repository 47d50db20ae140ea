"""What is kept of measurements, and what becomes of a file that is damaged."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.domain.test_measure import ANSWER, MODEL

from atoll.domain.measure import PROBE_ROWS
from atoll.node import probe_cache
from atoll.node.probe_cache import ProbeCache, ProbeKey

KEY = ProbeKey(
    model=MODEL,
    engine_build="llama.cpp-b1",
    library="lib.so",
    device="processor",
    threads=1,
    threads_large=2,
    spin=None,
    rows=PROBE_ROWS,
    short=(2, 3),
    long=(2, 5),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "probe.json"


def test_it_is_found_again_under_the_same_key_alone(path: Path) -> None:
    ProbeCache(path).keep(KEY, ANSWER)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    cache = ProbeCache(path)
    assert cache.find(KEY) == ANSWER
    for other in (
        replace(KEY, engine_build="llama.cpp-b2"),
        replace(KEY, library="mine.so"),
        replace(KEY, device="CUDA0"),
        replace(KEY, threads=2),
        replace(KEY, threads_large=1),
        replace(KEY, spin=1000),
        replace(KEY, rows=PROBE_ROWS[:2]),
        replace(KEY, long=None),
    ):
        assert cache.find(other) is None


def test_what_is_forgotten_is_gone_and_the_rest_stays(path: Path) -> None:
    cache, other = ProbeCache(path), replace(KEY, threads=4)
    cache.keep(KEY, ANSWER)
    cache.keep(other, ANSWER)
    cache.forget(KEY)
    cache.forget(KEY)
    assert (cache.find(KEY), cache.find(other)) == (None, ANSWER)


def test_a_later_one_replaces_and_the_oldest_go(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_cache, "ENTRIES_MAX", 2)
    cache, later = ProbeCache(path), replace(ANSWER, measured_at_s=2.0)
    cache.keep(KEY, ANSWER)
    cache.keep(KEY, later)
    assert cache.find(KEY) == later
    for threads in (3, 4):
        cache.keep(replace(KEY, threads=threads), ANSWER)
    assert cache.find(KEY) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"entries": [{}]}', b"\xff\xfe", b"null"])
def test_a_damaged_file_is_empty_and_written_anew(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    path.chmod(0o600)
    cache = ProbeCache(path)
    assert cache.find(KEY) is None
    cache.keep(KEY, ANSWER)
    assert cache.find(KEY) == ANSWER


def test_a_file_that_others_may_write_is_not_believed(path: Path) -> None:
    cache = ProbeCache(path)
    cache.keep(KEY, ANSWER)
    path.chmod(0o666)
    assert cache.find(KEY) is None
    cache.keep(KEY, ANSWER)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nonsense_that_was_kept_is_not_used(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = ProbeCache(path)
    cache.keep(KEY, replace(ANSWER, overhead_s=-1.0))
    assert cache.find(KEY) is None
    assert "probe.kept_nonsense" in caplog.text


def test_a_home_that_cannot_be_written_is_only_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = ProbeCache(tmp_path / "file" / "probe.json")
    cache.keep(KEY, ANSWER)
    assert "probe.not_kept" in caplog.text
