"""Room on a disk, and files that are given their place."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from atoll.domain.errors import PullFailed
from atoll.store.disk import check_room, move_in


def test_what_fits_beside_some_spare_has_room(tmp_path: Path) -> None:
    check_room(tmp_path, 0)
    with pytest.raises(PullFailed, match="do not fit") as raised:
        check_room(tmp_path, 2**62)
    assert "ATOLL_HOME" in raised.value.hint


def test_a_finished_file_takes_the_place_of_another(tmp_path: Path) -> None:
    part, target = tmp_path / "a.part", tmp_path / "a"
    part.write_bytes(b"new")
    part.chmod(0o600)
    target.write_bytes(b"old")
    move_in(part, target)
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o644
    assert not part.exists()
