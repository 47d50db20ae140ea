"""The mark of a running gateway."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from atoll.gateway.run_file import RunFile, kept_run_file, read_run_file, run_file_path
from atoll.net.home import held_home
from atoll.net.private_file import PrivateFileFault

MARK = RunFile("http://127.0.0.1:5", 17, "tide", "hush-hush", "/certs/one.pem")


def test_it_is_there_while_the_gateway_runs(tmp_path: Path) -> None:
    assert read_run_file(tmp_path) is None
    with held_home(tmp_path, "gateway"), kept_run_file(tmp_path, MARK) as path:
        assert path == run_file_path(tmp_path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert read_run_file(tmp_path) == MARK
    assert read_run_file(tmp_path) is None
    assert not path.exists()


def test_one_left_behind_counts_for_nothing(tmp_path: Path) -> None:
    with kept_run_file(tmp_path, MARK):
        assert read_run_file(tmp_path) is None
        with held_home(tmp_path, "gateway"):
            assert read_run_file(tmp_path) == MARK
        assert read_run_file(tmp_path) is None


def test_its_text_does_not_show_the_key() -> None:
    assert "hush" not in repr(MARK)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff", b'{"url": 3}'])
def test_a_malformed_one_is_told(tmp_path: Path, content: bytes) -> None:
    with held_home(tmp_path, "gateway"), kept_run_file(tmp_path, MARK) as path:
        path.write_bytes(content)
        with pytest.raises(PrivateFileFault, match="cannot be read"):
            read_run_file(tmp_path)


def test_one_open_to_others_is_refused(tmp_path: Path) -> None:
    with held_home(tmp_path, "gateway"), kept_run_file(tmp_path, MARK) as path:
        path.chmod(0o644)
        with pytest.raises(PrivateFileFault, match="open to other users"):
            read_run_file(tmp_path)
