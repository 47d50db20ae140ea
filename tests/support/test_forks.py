"""Programs forked from a process that has imported what they need."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.children import is_running
from tests.support.forks import ForkServer
from tests.support.rings import wait_until

from atoll import __version__


@pytest.fixture
def server() -> Iterator[ForkServer]:
    server = ForkServer()
    yield server
    server.close()


async def test_it_runs_the_command_line_and_tells_how_it_ended(
    server: ForkServer, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good.log", tmp_path / "bad.log"
    programs = [await server.start(["--version"], good), await server.start(["jion"], bad)]
    assert [await program.wait() for program in programs] == [0, 2]
    assert [program.returncode for program in programs] == [0, 2]
    assert __version__ in good.read_text()
    assert "jion" in bad.read_text()
    # Whoever has ended gets no signals, as another may have its number.
    programs[0].kill()


async def test_where_a_log_cannot_be_it_says_so(server: ForkServer, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"not started: .*No such file"):
        await server.start(["--version"], tmp_path / "nowhere" / "log")


async def test_variables_are_those_of_now(
    server: ForkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "log"
    program = await server.start(["nodes", "list"], log)
    assert await program.wait() == 0
    assert "Nobody was invited yet" in log.read_text()


async def test_it_ends_by_signals_and_with_its_server(tmp_path: Path) -> None:
    server = ForkServer()
    # A relay runs until it is ended.
    asked = ["relay", "--port", "0", "--home", str(tmp_path / "home")]
    killed, left = [await server.start(asked, tmp_path / name) for name in ("one", "two")]
    killed.kill()
    assert await killed.wait() == -signal.SIGKILL
    assert left.returncode is None
    server.close()
    assert await left.wait() == -signal.SIGKILL
    await wait_until(lambda: not is_running(left.pid), what="its end")
    with pytest.raises(RuntimeError, match="the fork server is gone"):
        await server.start(asked, tmp_path / "three")
