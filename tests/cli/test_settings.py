"""Options from variables and from the settings file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import pytest
from cyclopts import Parameter

from atoll.cli.app import main
from atoll.cli.settings import HomeFlags, StoreFlags, flags, settings_path
from atoll.store.layout import default_home


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ATOLL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ATOLL_CONFIG", raising=False)
    return tmp_path / "settings.toml"


def _list(settings: Path, *more: str) -> int:
    return main(["--config", str(settings), "keys", "list", *more])


def test_the_file_sets_options(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings.write_text("[keys.list]\njson = true\n")
    assert _list(settings) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_variable_goes_before_the_file(
    settings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.write_text("[keys.list]\njson = true\n")
    monkeypatch.setenv("ATOLL_KEYS_LIST_JSON", "false")
    assert _list(settings) == 0
    assert capsys.readouterr().out == ""


def test_a_flag_goes_before_a_variable(
    settings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.touch()
    monkeypatch.setenv("ATOLL_KEYS_LIST_JSON", "false")
    assert _list(settings, "--json") == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[keys.list]\njsn = true\n", "jsn"),
        ("[keys.list]\njson = 3\n", "json"),
        ("[key]\njson = true\n", "'key' is not a table"),
        ("json = true\n", "'json' is not a table"),
        ("keys = 3\n", "'keys' is not a table"),
        ("[keys\n", "cannot be read"),
        ("\udcff", "cannot be read"),
    ],
)
def test_mistakes_in_the_file_fail(
    settings: Path, content: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.write_bytes(content.encode(errors="surrogateescape"))
    assert _list(settings) == 2
    assert problem in capsys.readouterr().err


def test_a_file_that_is_named_must_be_there(
    settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _list(settings) == 2
    assert "there is no settings file" in capsys.readouterr().err


def test_the_users_own_file_may_be_missing(
    settings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(settings.parent / "config"))
    monkeypatch.setenv("HOME", str(settings.parent))
    assert main(["keys", "list"]) == 0
    path = settings_path()
    assert path.is_relative_to(settings.parent)
    path.parent.mkdir(parents=True)
    path.write_text("[keys.list]\njson = true\n")
    capsys.readouterr()
    assert main(["keys", "list"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_the_home_is_the_flag_or_the_default(
    settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert HomeFlags().home_dir() == default_home() == settings.parent / "home"
    assert HomeFlags(home=Path("/x/y")).home_dir() == Path("/x/y")
    monkeypatch.chdir(settings.parent)
    assert HomeFlags(home=Path("y")).home_dir() == settings.parent / "y"


def test_the_store_is_apart_from_the_home(settings: Path) -> None:
    assert StoreFlags().open_store().home == settings.parent / "home"
    chosen = settings.parent / "models"
    assert StoreFlags(store=chosen).open_store().home == chosen


def test_a_struct_of_options_is_frozen_and_by_keyword() -> None:
    @flags
    class Some(HomeFlags):
        """Options."""

        count: Annotated[int, Parameter(name="--number")] = 1

    assert Some(count=2) == Some(count=2)
    with pytest.raises(TypeError):
        Some(2)  # type: ignore[call-arg, arg-type]
    with pytest.raises(AttributeError):
        Some().count = 3  # type: ignore[misc]
    # Types are there, not their names: heirs in other modules need them.
    assert Some.__init__.__annotations__["home"] == Path | None
