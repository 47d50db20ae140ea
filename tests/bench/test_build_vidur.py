"""The environment for Vidur: where it is, and that half of one is none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from bench.build_peers import FOLDER_VARIABLE

from bench import build_vidur


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    return tmp_path / "vidur-0.0.26"


def test_half_an_environment_is_none(folder: Path) -> None:
    assert build_vidur.vidur_folder() == folder
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert build_vidur.built_vidur() is None
    (folder / "whole").touch()
    assert build_vidur.built_vidur() == python


def test_what_is_there_is_not_made_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.mkdir()
    (folder / "whole").touch()
    build_vidur.main()
    assert str(folder) in capsys.readouterr().out


def test_without_a_wheel_nothing_is_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 99))
    with pytest.raises(SystemExit, match=r"for Python 3\.11"):
        build_vidur.main()
    assert not folder.exists()


def test_each_needed_version_is_named_once() -> None:
    lines = [line for line in build_vidur.PINS.read_text().splitlines() if line[0] != "#"]
    names = [line.partition("==")[0].lower() for line in lines]
    assert all(line.count("==") == 1 for line in lines)
    assert len(set(names)) == len(names)
    # What it imports before it simulates.
    assert {
        *("numpy", "pandas", "scikit-learn", "wandb", "ddsketch"),
        *("plotly-express", "fasteners", "huggingface_hub"),
    } <= set(names)
