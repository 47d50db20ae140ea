"""The command line as a whole: help, errors, exit codes."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from cyclopts import App

import atoll
from atoll.cli.app import COMMANDS, EXIT_CODES, GROUPS, main, make_app
from atoll.domain.errors import AtollError

PARTS = [f"{group} {part}" for group, parts in GROUPS.items() for part in parts]


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ATOLL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ATOLL_CONFIG", str(tmp_path / "settings.toml"))
    (tmp_path / "settings.toml").touch()
    return tmp_path


@pytest.mark.parametrize("command", [*COMMANDS, *PARTS])
def test_every_command_has_help_with_an_example(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main([*command.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Usage: atoll {command}" in shown
    if command not in GROUPS:
        assert f"Example: atoll {command}" in shown


def test_the_list_of_commands_says_what_each_says_of_itself() -> None:
    app = make_app(COMMANDS)
    for name, text in COMMANDS.items():
        target = app[name]
        assert isinstance(target, App)
        said = inspect.getdoc(target.default_command) if target.default_command else target.help
        assert said is not None
        assert said.splitlines()[0] == text


def test_help_is_shown_without_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == atoll.__version__


def test_help_needs_no_heavy_imports() -> None:
    probe = (
        "import sys; from atoll.cli.app import main; main(['--help']);"
        "print([m for m in ('httpx', 'uvloop', 'starlette', 'numpy', 'cffi') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", probe], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", ["keys", "nodes", "invite", "status", "chat", "service"])
def test_what_talks_to_a_gateway_does_not_import_one(command: str) -> None:
    probe = (
        f"import sys, atoll.cli.{command};"
        "print([m for m in ('uvicorn', 'starlette', 'numpy', 'jinja2') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", probe], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "problem", "hint"),
    [
        (["serve"], "MODEL", "see 'atoll serve --help'"),
        (["serv"], 'Unknown command "serv"', "see 'atoll --help'"),
        (["serve", "m", "--nodes", "0"], "--nodes", "see 'atoll serve --help'"),
        (["serve", "m", "--nodes", "many"], "--nodes", "see 'atoll serve --help'"),
        (["serve", "m", "--port", "70000"], "--port", "see 'atoll serve --help'"),
        (["serve", "m", "--nods", "3"], "--nods", "see 'atoll serve --help'"),
        (["serve", "m", "--tls-cert", "x"], "go together", "give both or neither"),
        (["join", "file", "--secret", "x"], "--secret", "see 'atoll join --help'"),
        (["chat", "hi", "--key", "x"], "--key", "see 'atoll chat --help'"),
        (["chat", "hi", "--url", "ftp://x"], "not the address", "http://"),
        (["chat", "hi", "--temperature", "3"], "--temperature", "see 'atoll chat --help'"),
        (["keys", "create", ""], "1 to 64", "name it"),
        (["keys", "revoke", "nobody"], "no key 'nobody'", "atoll keys list"),
    ],
)
def test_what_cannot_be_understood_is_told(
    arguments: list[str], problem: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert shown.out == ""
    assert len(lines) == 2
    assert lines[0].startswith("error: ")
    assert problem in lines[0]
    assert lines[1].startswith("hint: ")
    assert hint in lines[1]


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["serve", "nosuch"], 3, "no model 'nosuch'"),
        (["pull", "/nonexistent.gguf"], 4, "no file"),
        (["pull", "http://192.0.2.1/x.gguf"], 4, "https"),
        (["join", "/nonexistent.join"], 6, "no ticket at"),
        (["status"], 7, "no gateway runs here"),
        (["chat", "hi"], 7, "no gateway runs here"),
        (["status", "--url", "http://127.0.0.1:1"], 7, "cannot reach"),
    ],
)
def test_every_error_has_its_exit_code(
    arguments: list[str], code: int, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == code
    shown = capsys.readouterr().err
    assert problem in shown
    assert "hint: " in shown
    assert "Traceback" not in shown


def test_exit_codes_of_all_errors_are_documented() -> None:
    for module in pkgutil.walk_packages(atoll.__path__, "atoll."):
        if not module.name.endswith(("__main__", "_process", ".reference")):
            importlib.import_module(module.name)
    kinds = [AtollError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    assert len(kinds) > 10
    assert {kind.exit_code for kind in kinds} <= set(EXIT_CODES)


def _break_keys(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def broken(_self: object) -> None:
        raise error

    monkeypatch.setattr("atoll.api.keys.KeyStore.list", broken)


def test_a_bug_is_shown_short(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _break_keys(monkeypatch, RuntimeError("what now"))
    assert main(["keys", "list"]) == 70
    shown = capsys.readouterr().err
    assert "error: this is a mistake in Atoll: RuntimeError: what now" in shown
    assert "ATOLL_DEBUG=1" in shown
    assert "Traceback" not in shown


def test_a_traceback_can_be_had(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _break_keys(monkeypatch, RuntimeError("what now"))
    monkeypatch.setenv("ATOLL_DEBUG", "1")
    assert main(["keys", "list"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_ends_quietly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _break_keys(monkeypatch, KeyboardInterrupt())
    assert main(["keys", "list"]) == 130
    assert capsys.readouterr().err == ""


def test_a_reader_that_has_enough_is_no_error(tmp_path: Path) -> None:
    script = f"{sys.executable} -P -m atoll keys list --json --home {tmp_path}; echo $? >&2"
    done = subprocess.run(
        ["bash", "-c", f"({script}) | true"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr.strip() == "0"


def test_a_bad_log_level(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ATOLL_LOG", "loud")
    assert main(["keys", "list"]) == 2
    assert "no log level 'loud'" in capsys.readouterr().err
