"""Files of records: seen at once by others, never half written."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import msgspec
import pytest

from atoll.net.records import RecordFault, RecordFile


class Numbers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int = 1
    numbers: tuple[int, ...] = ()


def open_file(path: Path) -> RecordFile[Numbers]:
    return RecordFile(path, Numbers(), title="list", remedy="start a new list")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "numbers.json"


def test_a_file_that_is_not_there_is_empty(path: Path) -> None:
    assert open_file(path).load() == Numbers()
    assert not path.exists()


def test_what_one_writes_another_reads(path: Path) -> None:
    one, other = open_file(path), open_file(path)
    one.save(Numbers(numbers=(1,)))
    assert other.load().numbers == (1,)
    one.save(Numbers(numbers=(1, 2)))
    assert other.load().numbers == (1, 2)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.unlink()
    assert other.load() == Numbers()


def test_writers_take_turns(path: Path) -> None:
    def add(number: int) -> None:
        file = open_file(path)
        with file.locked() as content:
            file.save(Numbers(numbers=(*content.numbers, number)))

    threads = [threading.Thread(target=add, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(open_file(path).load().numbers) == list(range(16))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"[]", "cannot be read"),
        (b'{"version": 1, "numbers": "x"}', "cannot be read"),
        (b'{"version": 1, "odd": 1}', "cannot be read"),
        (b'{"version": 2, "letters": []}', "has version 2"),
    ],
)
def test_a_damaged_file_is_told(path: Path, content: bytes, problem: str) -> None:
    open_file(path).save(Numbers())
    path.write_bytes(content)
    with pytest.raises(RecordFault, match=f"the list .* {problem}") as caught:
        open_file(path).load()
    assert caught.value.hint


def test_a_folder_in_the_way_is_told(path: Path) -> None:
    path.mkdir(parents=True)
    for attempt in (lambda: open_file(path).load(), lambda: open_file(path).save(Numbers())):
        with pytest.raises(RecordFault):
            attempt()
