"""Forked programs are processes of their own, and none outlives its server."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.children import is_running, new_children
from tests.support.forks import Forked, ForkServer, start_program
from tests.support.rings import wait_until

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="programs are started plainly here"),
    pytest.mark.usefixtures("own_children"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    server = ForkServer()
    yield server
    server.close()


async def relay(server: ForkServer, folder: Path) -> Forked:
    """A program that runs until it is stopped."""
    log = folder / "relay.log"
    program = await server.start(["relay", "--port", "0", "--home", str(folder / "relay")], log)
    await wait_until(log.read_text, what="its first line")
    return program


async def test_exit_and_log_are_its_own(server: ForkServer, tmp_path: Path) -> None:
    logs = [tmp_path / "good.log", tmp_path / "bad.log"]
    good = await server.start(["--version"], logs[0])
    bad = await server.start(["join", str(tmp_path / "no.join")], logs[1])
    assert len({good.pid, bad.pid, server.pid, os.getpid()}) == 4
    assert [await good.wait(), await bad.wait(), await bad.wait()] == [0, 6, 6]
    assert bad.returncode == 6
    bad.kill()
    good_log, bad_log = (log.read_text() for log in logs)
    assert "no.join" in bad_log
    assert good_log
    assert "no.join" not in good_log


async def test_variables_and_folder_are_those_of_the_start(
    server: ForkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await server.start(["--version"], tmp_path / "first.log")).wait()
    settings = tmp_path / "config" / "atoll"
    settings.mkdir(parents=True)
    (settings / "settings.toml").write_text("no settings")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(settings.parent))
    monkeypatch.setenv("ATOLL_CONFIG", "not passed on")
    monkeypatch.chdir(tmp_path)
    program = await server.start(["cache", "list"], Path("second.log"))
    assert await program.wait() == 2
    assert str(settings / "settings.toml") in (tmp_path / "second.log").read_text()


async def test_a_signal_is_told(server: ForkServer, tmp_path: Path) -> None:
    program = await relay(server, tmp_path)
    assert program.returncode is None
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(program.wait(), 0.05)
    program.send_signal(signal.SIGINT)
    assert await program.wait() == 0
    program = await relay(server, tmp_path)
    program.kill()
    assert await program.wait() == -signal.SIGKILL


def test_any_loop_may_wait(server: ForkServer, tmp_path: Path) -> None:
    program = asyncio.run(relay(server, tmp_path))
    program.terminate()
    assert asyncio.run(program.wait()) == 0


async def test_no_log_no_program(server: ForkServer, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"No such file or directory: .*no/log"):
        await server.start(["--version"], tmp_path / "no" / "log")


@pytest.mark.parametrize("killed", [False, True])
async def test_no_program_outlives_the_server(tmp_path: Path, *, killed: bool) -> None:
    server = ForkServer()
    program = await relay(server, tmp_path)
    if killed:
        os.kill(server.pid, signal.SIGKILL)
    server.close()
    assert await program.wait() == -signal.SIGKILL
    await wait_until(lambda: not is_running(program.pid), what="its end")
    with pytest.raises(RuntimeError, match="gone"):
        await server.start(["--version"], tmp_path / "late.log")


async def test_programs_count_as_children_and_the_server_does_not(tmp_path: Path) -> None:
    home, log = tmp_path / "relay", tmp_path / "relay.log"
    program = await start_program(["relay", "--port", "0", "--home", str(home)], log)
    assert [child.pid for child in new_children()] == [program.pid]
    program.kill()
    assert await program.wait() == -signal.SIGKILL
    assert new_children() == []
