from __future__ import annotations

import os
from pathlib import Path

import pytest

from atoll.net.private_file import PrivateFileFault, read_private, write_private


def test_written_file_is_the_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "new" / "secret"
    before = os.umask(0)
    try:
        write_private(path, b"one", replace=False)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert read_private(path, bytes_max=3) == b"one"


def test_replacing_leaves_no_parts_behind(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_private(path, b"one", replace=True)
    write_private(path, b"two", replace=True)
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_private(path, b"one", replace=False)
    with pytest.raises(FileExistsError):
        write_private(path, b"two", replace=False)
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret"
    write_private(path, b"one", replace=False)
    path.chmod(mode)
    with pytest.raises(PrivateFileFault, match="open to other users"):
        read_private(path, bytes_max=10)


def test_file_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret"
    write_private(path, b"one", replace=False)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(PrivateFileFault, match="belongs to user id"):
        read_private(path, bytes_max=10)


def test_link_pipe_folder_and_long_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_private(path, b"12345", replace=False)
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(PrivateFileFault, match="cannot open"):
        read_private(link, bytes_max=10)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    with pytest.raises(PrivateFileFault, match="not a regular file"):
        read_private(pipe, bytes_max=10)
    with pytest.raises(PrivateFileFault, match="longer than 4 bytes"):
        read_private(path, bytes_max=4)
    with pytest.raises(FileNotFoundError):
        read_private(tmp_path / "none", bytes_max=4)
    with pytest.raises(PrivateFileFault, match="not a regular file"):
        read_private(tmp_path, bytes_max=4)


def test_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PrivateFileFault, match="cannot write"):
        write_private(tmp_path / "file" / "secret", b"one", replace=True)
