"""The parent's end of an engine process, with real children that behave well or badly."""

from __future__ import annotations

import asyncio
import os
import platform
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import uvloop
from tests.support.odd_children import Answer, Order

from atoll.domain.errors import EngineFault
from atoll.engine.channel import Broken
from atoll.engine.child import EngineChild
from atoll.engine.seccomp import MACHINES

SUPPORT = Path(__file__).parent.parent / "support"
DECODER = msgspec.msgpack.Decoder(Answer | Broken)
WAIT_S = 30.0


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children that are deaf on purpose need not be waited for as long as real ones."""
    monkeypatch.setattr("atoll.engine.child.CLOSE_S", 0.3)


class Watch:
    """A child and everything it told its parent."""

    def __init__(self) -> None:
        self.replies: list[tuple[Answer, bytes]] = []
        self.faults: list[EngineFault] = []
        self._news = asyncio.Event()
        self.child = EngineChild[Answer]("test process", DECODER, self._reply, self._exit)

    def _reply(self, reply: Answer, payload: bytes) -> None:
        self.replies.append((reply, payload))
        self._news.set()

    def _exit(self, fault: EngineFault) -> None:
        self.faults.append(fault)
        self._news.set()

    async def start(self, do: str = "echo", *, devices: bool = False) -> Answer:
        async with asyncio.timeout(WAIT_S):
            return await self.child.start(
                *("odd_children", Order(do)),
                memory_bytes=None,
                env={"PYTHONPATH": f"{SUPPORT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
                devices=devices,
            )

    async def wait_for(self, enough: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not enough():
                self._news.clear()
                await self._news.wait()

    async def wait_fault(self) -> EngineFault:
        await self.wait_for(lambda: bool(self.faults))
        return self.faults[0]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@asynccontextmanager
async def watched() -> AsyncIterator[Watch]:
    """Ends the child, and with it checks that nothing is left and no fault came twice."""
    watch = Watch()
    try:
        yield watch
    finally:
        await watch.child.close()
        assert watch.child.pid is None or not is_alive(watch.child.pid)
        assert len(watch.faults) <= 1


async def test_requests_are_answered_until_it_is_closed() -> None:
    async with watched() as watch:
        assert await watch.start() == Answer("echo")
        assert watch.child.pid is not None
        assert is_alive(watch.child.pid)
        watch.child.send(Order("echo"), b"one", memoryview(b" two"))
        await watch.wait_for(lambda: len(watch.replies) == 1)
        assert watch.replies == [(Answer("echo"), b"one two")]
    assert watch.faults == []
    watch.child.send(Order("echo"))
    await watch.child.close()


async def test_large_payloads_go_through_whole_and_in_order() -> None:
    """More than both sockets hold, several behind each other: written in parts."""
    payloads = [bytes([i]) * (12_000_000 + i) for i in range(3)] + [b"last"]
    async with watched() as watch:
        await watch.start()
        for payload in payloads:
            watch.child.send(Order("echo"), payload)
        await watch.wait_for(lambda: len(watch.replies) == 4)
        assert [payload for _, payload in watch.replies] == payloads


@pytest.mark.skipif(
    platform.machine() not in MACHINES or not sys.platform.startswith("linux"),
    reason="there is no filter for system calls here",
)
@pytest.mark.parametrize(
    ("devices", "mode", "told"),
    [
        # As a driver opens its device's file; but nothing is made, emptied or cut.
        (True, "r+b", "refused after opening"),
        (True, "wb", "refused after nothing"),
        (True, "xb", "refused after nothing"),
        (False, "r+b", "refused after nothing"),
    ],
)
async def test_only_for_a_gpu_may_a_child_open_files_for_writing(
    tmp_path: Path, devices: bool, mode: str, told: str
) -> None:
    file = tmp_path / "device"
    if mode != "xb":
        file.write_bytes(b"kept")
    async with watched() as watch:
        await watch.start(devices=devices)
        watch.child.send(Order("open"), f"{file}|{mode}".encode())
        await watch.wait_for(lambda: bool(watch.replies))
        assert watch.replies[0][0] == Answer(told)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([] if mode == "xb" else [b"kept"])


async def test_many_answers_at_once_come_in_order() -> None:
    async with watched() as watch:
        await watch.start()
        watch.child.send(Order("many"))
        await watch.wait_for(lambda: len(watch.replies) == 200)
        assert watch.replies == [(Answer(str(i)), bytes([i])) for i in range(200)]


@pytest.mark.parametrize(
    ("number", "words"),
    [(signal.SIGKILL, "killed, perhaps for want of memory"), (signal.SIGSEGV, "invalid memory")],
)
async def test_a_killed_child_is_reported_once(number: signal.Signals, words: str) -> None:
    async with watched() as watch:
        await watch.start()
        assert watch.child.pid is not None
        os.kill(watch.child.pid, number)
        fault = await watch.wait_fault()
        assert f"test process was killed by signal {number.value}" in fault.problem
        assert words in fault.problem
        watch.child.send(Order("echo"), b"nobody hears")


async def test_an_abort_inside_is_reported() -> None:
    async with watched() as watch:
        await watch.start()
        watch.child.send(Order("abort"))
        assert "killed by signal 6 (abort)" in (await watch.wait_fault()).problem


async def test_death_amid_a_large_write_is_reported() -> None:
    async with watched() as watch:
        await watch.start()
        watch.child.send(Order("deaf"))
        watch.child.send(Order("echo"), bytes(30_000_000))
        assert watch.child.pid is not None
        os.kill(watch.child.pid, signal.SIGKILL)
        assert "signal 9" in (await watch.wait_fault()).problem


async def test_an_exit_is_reported_with_its_code() -> None:
    async with watched() as watch:
        await watch.start()
        watch.child.send(Order("exit"))
        assert (await watch.wait_fault()).problem == "test process ended with exit code 3"


async def test_a_child_that_says_it_is_broken_is_quoted_and_ended() -> None:
    async with watched() as watch:
        await watch.start()
        watch.child.send(Order("broken"))
        fault = await watch.wait_fault()
        assert (fault.problem, fault.hint) == ("the shard is eaten", "pull it again")


async def test_a_child_that_says_garbage_is_ended() -> None:
    async with watched() as watch:
        await watch.start()
        watch.child.send(Order("garbage"))
        assert "beyond its bounds" in (await watch.wait_fault()).problem


@pytest.mark.parametrize(
    ("do", "words"),
    [
        ("broken", "the shard is eaten"),
        ("garbage", "beyond its bounds"),
        ("abort", r"signal 6 \(abort\)"),
        ("exit", "exit code 3"),
    ],
)
async def test_trouble_before_the_first_answer_fails_the_start(do: str, words: str) -> None:
    async with watched() as watch:
        with pytest.raises(EngineFault, match=words):
            await watch.start(do)
    assert watch.faults == []


async def test_a_module_that_is_not_there_fails_the_start() -> None:
    async with watched() as watch:
        with pytest.raises(EngineFault, match="exit code 1"):
            await watch.child.start(
                "no_such_module", Order("echo"), memory_bytes=None, env={"PYTHONPATH": ""}
            )


async def test_closing_ends_who_still_waits_for_the_first_answer() -> None:
    async with watched() as watch:
        async with asyncio.TaskGroup() as tasks:
            starting = tasks.create_task(_start_and_fail(watch), name="start")
            while watch.child.pid is None:
                await asyncio.sleep(0.01)
            await watch.child.close()
        assert "closed while it started" in starting.result()


async def test_closing_before_the_process_is_there_leaves_none() -> None:
    async with watched() as watch:
        async with asyncio.TaskGroup() as tasks:
            starting = tasks.create_task(_start_and_fail(watch), name="start")
            await asyncio.sleep(0)
            await watch.child.close()
        assert "closed while it started" in starting.result()


async def _start_and_fail(watch: Watch) -> str:
    with pytest.raises(EngineFault) as caught:
        await watch.start("deaf")
    return caught.value.problem


async def test_a_start_that_is_cancelled_leaves_no_process() -> None:
    async with watched() as watch:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await watch.start("deaf")
    assert watch.faults == []


def test_it_works_on_uvloop_as_well() -> None:
    """The gateway runs on uvloop, whose processes and readers are its own."""

    async def run() -> None:
        async with watched() as watch:
            await watch.start()
            watch.child.send(Order("echo"), bytes(20_000_000))
            await watch.wait_for(lambda: len(watch.replies) == 1)
            assert len(watch.replies[0][1]) == 20_000_000
            assert watch.child.pid is not None
            os.kill(watch.child.pid, signal.SIGKILL)
            assert "signal 9" in (await watch.wait_fault()).problem

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
