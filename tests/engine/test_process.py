from __future__ import annotations

import asyncio
import json
import logging
import os
import platform
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from atoll.domain.errors import EngineFault
from atoll.engine.process import (
    LINES_PER_MINUTE_MAX,
    PASSED_ON,
    Child,
    death_sentence,
    spawn_confined,
)

SUPPORT = Path(__file__).parent.parent / "support"
MODULES = os.pathsep.join(filter(None, (str(SUPPORT), os.environ.get("PYTHONPATH"))))
LINUX = sys.platform.startswith("linux")
on_linux = pytest.mark.skipif(not LINUX, reason="only Linux has this measure")


@asynccontextmanager
async def running(
    order: dict[str, object], *, memory_bytes: int | None = None, **environment: str
) -> AsyncIterator[tuple[Child, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    child = await spawn_confined(
        "engine_children",
        theirs,
        name="test process",
        memory_bytes=memory_bytes,
        environment={"PYTHONPATH": MODULES, **environment},
    )
    try:
        await asyncio.get_running_loop().sock_sendall(ours, json.dumps(order).encode())
        yield child, ours
    finally:
        ours.close()
        await child.close()


async def answer(ours: socket.socket) -> bytes:
    async with asyncio.timeout(30):
        return await asyncio.get_running_loop().sock_recv(ours, 1 << 20)


@on_linux
async def test_child_gives_up_network_files_and_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATOLL_TEST_SECRET", "do not pass on")
    target = tmp_path / "model.gguf"
    target.write_text("unchanged")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        order: dict[str, object] = {"do": "probe", "port": port, "file": str(target)}
        async with running(order, GOMP_SPINCOUNT="1000") as (_, ours):
            told = json.loads(await answer(ours))
    held = [entry for entry in told["isolation"] if not entry.startswith("no ")]
    assert {"pdeathsig", "rlimit_core", "rlimit_fsize", "no_new_privs"} <= set(held)
    assert told["inet"] != "done"
    if platform.machine() in ("x86_64", "aarch64"):
        assert "seccomp" in held
        for what in ("inet", "unix", "fork", "run", "write", "remove", "kill_parent"):
            assert told[what] == "PermissionError", what
    assert target.read_text() == told["read"] == "unchanged"
    assert told["thread"] == "done"
    assert told["core"] == 0
    assert told["session"]
    assert told["files"] <= 5, "standard streams, the socket, and the listing itself"
    environment = told["environment"]
    assert environment["GOMP_SPINCOUNT"] == "1000"
    extra = {"GOMP_SPINCOUNT", "PYTHONPATH", "PYTHONUTF8", "PYTHONDONTWRITEBYTECODE"}
    allowed = extra | {"OPENBLAS_NUM_THREADS", "GGML_NO_BACKTRACE", "LC_CTYPE"}
    allowed |= set(PASSED_ON)
    assert set(environment) <= allowed


@on_linux
async def test_there_is_no_way_around_what_a_child_gave_up(tmp_path: Path) -> None:
    """Older and newer calls for the same things, and signals sent by way of a descriptor."""
    target = tmp_path / "model.gguf"
    target.write_text("unchanged")
    os.utime(target, (1, 1))
    async with running({"do": "walk around", "file": str(target)}) as (_, ours):
        told = json.loads(await answer(ours))
    if platform.machine() in ("x86_64", "aarch64"):
        assert told == dict.fromkeys(told, "PermissionError")
    assert target.stat().st_mtime == 1


@on_linux
async def test_memory_bound_is_an_error_in_the_child_not_on_the_machine() -> None:
    order: dict[str, object] = {"do": "fill", "bytes": 1 << 30}
    async with running(order, memory_bytes=512 << 20) as (child, ours):
        assert await answer(ours) == b"MemoryError"
        assert await child.wait_ended() == "test process ended with exit code 0"
    async with running(order) as (_, ours):
        assert await answer(ours) == str(1 << 30).encode()


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("abort", "test process was killed by signal 6 (abort)"),
        ("crash", "test process was killed by signal 11 (invalid memory access)"),
        ("exit", "test process ended with exit code 7"),
    ],
)
async def test_death_is_known_at_once_and_said(what: str, sentence: str) -> None:
    async with running({"do": what}) as (child, ours):
        assert await answer(ours) == b""
        async with asyncio.timeout(10):
            assert await child.wait_ended() == sentence
        assert not child.alive
        assert child.returncode is not None


async def test_last_words_are_kept(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with running({"do": "abort"}) as (child, _):
        await child.wait_ended()
    assert child.last_line == "assertion failed: tensor"
    assert "assertion failed: tensor" in caplog.text


async def test_a_loud_child_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with running({"do": "shout"}) as (child, _):
        assert await child.wait_ended() == "test process ended with exit code 0"
    assert len(caplog.records) == LINES_PER_MINUTE_MAX
    assert max(len(record.getMessage()) for record in caplog.records) < 1200


async def test_close_ends_a_child_that_will_not_go() -> None:
    async with running({"do": "stop"}) as (child, _):
        sentence = await child.close(grace_s=0.1)
        assert "signal 9" in sentence
        assert not child.alive
    child.kill()


async def test_grace_lets_a_child_end_by_itself() -> None:
    async with running({"do": "pid"}) as (child, ours):
        assert int(await answer(ours)) == child.pid
        ours.close()
        assert await child.close(grace_s=20) == "test process ended with exit code 0"


def test_the_gateways_loop_sees_the_same() -> None:
    async def run() -> tuple[bytes, str, str]:
        async with running({"do": "abort"}) as (child, ours):
            got = await answer(ours)
            return got, await child.wait_ended(), child.last_line

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        got, sentence, last_line = runner.run(run())
    assert got == b""
    assert sentence == "test process was killed by signal 6 (abort)"
    assert last_line == "assertion failed: tensor"


def test_a_child_that_has_ended_unheard_may_be_killed() -> None:
    """The gateway's loop knows of an end before it tells, and would refuse a signal then."""

    async def run() -> int | None:
        async with running({"do": "stop"}) as (child, _):
            while child.alive:
                child.kill()
                await asyncio.sleep(0)
            return child.returncode

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(run()) == -9


PARENT = """
import asyncio, json, socket, sys
from atoll.engine.process import spawn_confined

async def main():
    ours, theirs = socket.socketpair()
    child = await spawn_confined("engine_children", theirs, name="orphan",
                                 environment={"PYTHONPATH": sys.argv[1]})
    ours.send(json.dumps({"do": "stop"}).encode())
    assert ours.recv(100) == b"stopped"
    print(child.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@on_linux
async def test_child_dies_with_its_parent() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(SUPPORT)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert parent.stdout is not None
        pid = int(await asyncio.to_thread(parent.stdout.readline))
        assert _is_alive(pid)
    finally:
        parent.kill()
        parent.communicate()
    async with asyncio.timeout(10):
        while _is_alive(pid):
            await asyncio.sleep(0.02)


async def test_a_child_that_cannot_start_is_an_engine_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    ours, theirs = socket.socketpair()
    with ours, pytest.raises(EngineFault, match="cannot start the test process"):
        await spawn_confined("engine_children", theirs, name="test process")
    assert theirs.fileno() == -1


@pytest.mark.parametrize(
    ("returncode", "sentence"),
    [
        (3, "it ended with exit code 3"),
        (-9, "it was killed by signal 9 (killed, perhaps for want of memory)"),
        (-15, "it was killed by signal 15 (Terminated)"),
        (-200, "it was killed by signal 200 (unknown)"),
    ],
)
def test_death_sentences(returncode: int, sentence: str) -> None:
    if LINUX or returncode != -15:
        assert death_sentence("it", returncode) == sentence


def test_nothing_is_left_in_the_environment() -> None:
    assert not [key for key in os.environ if key.startswith("ATOLL_CHILD")]
