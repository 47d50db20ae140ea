from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from bench.llama_rpc import RPC_SERVER, SERVER

from bench import build_peers


def test_another_archive_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(b"another")
    build_peers.check_archive(archive, hashlib.sha256(b"another").hexdigest())
    with pytest.raises(SystemExit, match="SHA-256"):
        build_peers.check_archive(archive)


def test_peers_are_there_once_both_programs_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(build_peers.FOLDER_VARIABLE, str(tmp_path))
    (tmp_path / SERVER).touch()
    assert build_peers.built_peers() is None
    (tmp_path / RPC_SERVER).touch()
    assert build_peers.built_peers() == tmp_path


def test_what_is_there_is_not_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(build_peers.FOLDER_VARIABLE, str(tmp_path))
    for name in (SERVER, RPC_SERVER):
        (tmp_path / name).touch()
    build_peers.main()
    assert str(tmp_path) in capsys.readouterr().out


def test_what_is_missing_to_compile_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(build_peers.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="cmake, ninja"):
        build_peers.main()
