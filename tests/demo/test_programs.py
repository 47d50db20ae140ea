"""Programs as children: started, watched, stopped."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest

from atoll.demo.programs import ProgramDied, started


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # The user's own settings must not reach a program of ours.
    monkeypatch.setenv("ATOLL_KEYS_LIST_JSON", "not a truth value")
    monkeypatch.setenv("ATOLL_API_KEY", "hush-hush")
    return tmp_path


async def test_its_data_can_be_read(folder: Path) -> None:
    arguments = ["keys", "create", "one", "--json", "--home", str(folder / "home")]
    async with started("keys", arguments, folder) as program:
        assert await program.first_line() == b"{\n"
        environment = psutil.Process(program.pid).environ()
        assert "ATOLL_API_KEY" not in environment
    listing = ["keys", "list", "--home", str(folder / "home")]
    async with started("list", listing, folder) as program:
        assert b"id" in await program.first_line() + await program.first_line()


async def test_a_program_that_dies_says_why(folder: Path) -> None:
    async with started("join", ["join", str(folder / "no.join")], folder) as program:
        with pytest.raises(ProgramDied, match="join ended with exit code 6") as caught:
            await program.wait_died()
    assert "there is no ticket at" in caught.value.hint


async def test_a_program_without_data_is_dead(folder: Path) -> None:
    async with started("join", ["join", str(folder / "no.join")], folder) as program:
        with pytest.raises(ProgramDied, match="exit code 6"):
            await program.first_line()


async def test_a_killed_program(folder: Path) -> None:
    async with started("waits", ["join", "-"], folder) as program:
        psutil.Process(program.pid).send_signal(signal.SIGKILL)
        with pytest.raises(ProgramDied, match="ended by signal 9"):
            await program.wait_died()


async def test_leaving_stops_it(folder: Path) -> None:
    async with started("waits", ["join", "-"], folder) as program:
        process = psutil.Process(program.pid)
        assert process.is_running()
    assert not process.is_running()


async def test_one_that_does_not_listen_is_killed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atoll.demo.programs.STOP_S", 0.3)
    async with started("waits", ["join", "-"], folder) as program:
        process = psutil.Process(program.pid)
        process.suspend()
    assert not process.is_running()
