"""What was sent is found again, wherever it lies, or known to be lost."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.domain.ids import Epoch, SessionId, Slot
from atoll.domain.wire import ENCODINGS, F16_SCALED, F32, Window, row_bytes
from atoll.node.boundary_record import BoundaryRecord

N_EMBD = 40


def window(keep: int, rows: int, encoding: str = F16_SCALED, session: int = 1) -> Window:
    return Window(SessionId(session), Slot(0), Epoch(1, 1), 0, keep, rows, encoding)


def payload(values: list[int], encoding: str = F16_SCALED) -> bytes:
    """Rows of a value each: all values, then what scales them."""
    whole = row_bytes(encoding, N_EMBD)
    body = {"f32": 4 * N_EMBD, "f16s": 2 * N_EMBD, "i8b32": N_EMBD}[encoding]
    bodies = b"".join(bytes([v % 256]) * body for v in values)
    return bodies + b"".join(bytes([(v + 1) % 256]) * (whole - body) for v in values)


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(sent=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), max_size=20))
def test_rows_are_those_that_were_sent_last(
    encoding: str, sent: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    lost: list[SessionId] = []
    folder = tmp_path_factory.mktemp("record") / "rows"
    record = BoundaryRecord(N_EMBD, lost.append, ram_bytes=700, folder=folder)
    rows: list[int] = []
    for number, (back, count) in enumerate(sent):
        keep = max(0, len(rows) - back)
        values = [number * 10 + i for i in range(count)]
        rows[keep:] = values
        record.keep(window(keep, count, encoding), payload(values, encoding))
    assert lost == []
    assert record.ram_bytes <= 700
    for keep in range(0, len(rows), 3):
        part = rows[keep : keep + 7]
        found = record.rows(window(keep, len(part), encoding))
        assert found == payload(part, encoding)
    assert record.rows(window(len(rows), 1, encoding)) is None
    record.close()
    assert (record.ram_bytes, record.disk_bytes) == (0, 0)
    assert not folder.exists()


def test_what_lies_on_the_disk_is_private_and_says_nothing(tmp_path: Path) -> None:
    record = BoundaryRecord(N_EMBD, lambda _: None, ram_bytes=100, folder=tmp_path / "rows")
    record.keep(window(0, 4), payload([7, 7, 7, 7]))
    files = list((tmp_path / "rows").iterdir())
    assert files
    assert stat.S_IMODE((tmp_path / "rows").stat().st_mode) == 0o700
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert bytes([7]) * 16 not in file.read_bytes()
        file.write_bytes(bytes(len(file.read_bytes())))
    assert record.rows(window(0, 4)) is None


def test_a_session_for_which_there_is_no_room_is_let_go(tmp_path: Path) -> None:
    lost: list[SessionId] = []
    no_folder = tmp_path / "file"
    no_folder.write_text("in the way")
    record = BoundaryRecord(N_EMBD, lost.append, ram_bytes=500, folder=no_folder / "rows")
    record.keep(window(0, 4), payload([1, 2, 3, 4]))
    record.keep(window(0, 4, session=2), payload([1, 2, 3, 4]))
    assert lost == [SessionId(1)]
    assert record.rows(window(0, 4)) is None
    assert record.rows(window(0, 4, session=2)) == payload([1, 2, 3, 4])
    record.drop(SessionId(2))
    assert record.ram_bytes == 0


def test_rows_behind_a_gap_are_of_no_use() -> None:
    lost: list[SessionId] = []
    record = BoundaryRecord(N_EMBD, lost.append)
    record.keep(window(3, 1, F32), payload([1], F32))
    assert lost == [SessionId(1)]
    assert record.rows(window(3, 1, F32)) is None
