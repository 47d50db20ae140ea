"""The session journal: what is written is read again, and a torn end is cut off."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.api.journal import (
    MAGIC,
    End,
    Head,
    Journal,
    JournalFault,
    Token,
    read_head,
    read_journal,
)
from atoll.api.params import Job
from atoll.domain.generation import GenerateRequest, Sampled, SamplingParams, TopLogprob

JOB = Job(
    id="chatcmpl-1",
    created=1_700_000_000,
    requests=tuple(
        GenerateRequest(
            prompt=(1, 2, 3),
            max_tokens=9,
            sampling=SamplingParams(
                temperature=0.7, logit_bias=((3, -1.5),), seed=seed, logprobs=2
            ),
            exact=True,
            group="00112233",
        )
        for seed in (5, 2**63 - 1)
    ),
    stops=("\n", "é"),
    prompt_tokens=3,
    stream=True,
    include_usage=True,
    logprobs=True,
)
HEAD = Head("strm-" + "a" * 32, "00112233", "chat", "ab" * 32, JOB, "retry-1", "cd" * 32)
TOKENS = [
    Sampled(7, b"\xc3", None, -0.25, (TopLogprob(7, b"\xc3", -0.25), TopLogprob(8, b"x", -9.5)), 2),
    Sampled(9, b"\xa9"),
    Sampled(0, b"", "stop"),
]


def write(path: Path) -> list[int]:
    """Write a journal; returns how long it was after each record."""
    journal = Journal.create(path, HEAD)
    sizes = [journal.n_bytes]
    for sampled in TOKENS:
        journal.append(Token.of(1, sampled))
        sizes.append(journal.n_bytes)
    journal.append(End())
    journal.close()
    return [*sizes, journal.n_bytes]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    sizes = write(path)
    found = read_journal(path)
    assert found.head == HEAD == read_head(path)
    assert [token.sampled for token in found.tokens] == TOKENS
    assert {token.index for token in found.tokens} == {1}
    assert found.ended
    assert found.n_bytes == sizes[-1] == path.stat().st_size
    assert path.stat().st_mode & 0o777 == 0o600


def test_every_torn_end_is_cut_off(tmp_path: Path) -> None:
    path, torn = tmp_path / "a.journal", tmp_path / "b.journal"
    sizes = write(path)
    content = path.read_bytes()
    for length in range(sizes[0], len(content)):
        torn.write_bytes(content[:length])
        found = read_journal(torn)
        whole = sum(size <= length for size in sizes) - 1
        assert [token.sampled for token in found.tokens] == TOKENS[:whole]
        assert found.n_bytes == sizes[whole]
        assert not found.ended


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_ends_what_is_believed(tmp_path_factory: object, at: int, by: int) -> None:
    path = tmp_path_factory.mktemp("journal") / "a"  # type: ignore[attr-defined]
    sizes = write(path)
    content = bytearray(path.read_bytes())
    at = sizes[0] + at % (len(content) - sizes[0])
    content[at] ^= by
    path.write_bytes(content)
    found = read_journal(path)
    assert found.n_bytes == max(size for size in sizes if size <= at)
    assert [token.sampled for token in found.tokens] == TOKENS[: len(found.tokens)]


def test_one_is_gone_on_with_where_it_was_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    sizes = write(path)
    with path.open("r+b") as file:
        file.truncate(sizes[2] + 3)
    journal = Journal.reopen(path, read_journal(path).n_bytes)
    journal.append(Token.of(0, TOKENS[2]))
    journal.close()
    found = read_journal(path)
    assert [token.sampled for token in found.tokens] == [*TOKENS[:2], TOKENS[2]]
    assert [token.index for token in found.tokens] == [1, 1, 0]


@pytest.mark.parametrize("content", [b"", b"x", MAGIC, MAGIC + b"\xff" * 8, MAGIC + bytes(8)])
def test_without_a_head_it_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.journal"
    path.write_bytes(content)
    for read in (read_journal, read_head):
        with pytest.raises(JournalFault):
            read(path)


def test_a_choice_that_was_not_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    journal = Journal.create(path, HEAD)
    journal.append(Token.of(2, TOKENS[0]))
    journal.close()
    with pytest.raises(JournalFault, match="choice"):
        read_journal(path)


def test_another_files_name_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    path.write_bytes(b"mine")
    with pytest.raises(JournalFault):
        Journal.create(path, HEAD)
    assert path.read_bytes() == b"mine"


def test_a_disk_without_room_is_told(tmp_path: Path) -> None:
    """A limit on files' size makes the system write less than it is given, as a full disk does."""
    path = tmp_path / "a.journal"
    journal = Journal.create(path, HEAD)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (journal.n_bytes + 10, before[1]))
    try:
        with pytest.raises(JournalFault, match="No space left"):
            journal.append(Token.of(0, TOKENS[0]))
        # Python ignores SIGXFSZ, so that the next write is refused.
        with pytest.raises(JournalFault, match="cannot be written"):
            journal.append(Token.of(0, TOKENS[0]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    journal.close()
    assert read_journal(path).tokens == ()


def test_a_duplicate_outlives_the_journal(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path / "a.journal", HEAD)
    fd = journal.duplicate()
    journal.close()
    os.fsync(fd)
    os.close(fd)
