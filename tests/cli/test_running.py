"""Running until told to stop, as real processes see it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable
from types import FrameType

import pytest

from atoll.cli.running import hear_interrupts, run, run_until_stopped
from atoll.domain.errors import AtollError

PROGRAM = """
import asyncio, sys
from atoll.cli.running import run_until_stopped
async def work():
    print("started", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.3)
        print("cleaned", flush=True)
stopped = run_until_stopped(work(), stop_at_eof=True)
print(stopped.name if stopped else "by itself", flush=True)
"""


def _start() -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_it_cleanly(number: signal.Signals) -> None:
    process = _start()
    process.send_signal(number)
    out, _ = process.communicate(timeout=20)
    assert out == f"cleaned\n{number.name}\n"
    assert process.returncode == 0


def test_a_second_signal_does_not_break_the_cleaning() -> None:
    process = _start()
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=20)
    assert out.splitlines()[0] == "cleaned"
    assert process.returncode == 0


def test_the_end_of_its_input_stops_it() -> None:
    process = _start()
    assert process.stdin is not None
    process.stdin.write("this is not read as anything\n")
    process.stdin.flush()
    out, _ = process.communicate(timeout=20)
    assert out == "cleaned\nby itself\n"


def test_work_that_ends_by_itself() -> None:
    async def work() -> None:
        await asyncio.sleep(0)

    assert run_until_stopped(work()) is None


def test_what_work_raises_comes_out_plain() -> None:
    async def work() -> None:
        raise AtollError("no power")

    with pytest.raises(AtollError, match="no power"):
        run_until_stopped(work())


def test_the_result_of_a_run() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    assert run(work()) == 7


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL, signal.default_int_handler])
def test_whatever_stood_before_interrupts_were_heard_stands_after_it(
    handler: signal.Handlers | Callable[[int, FrameType | None], None],
) -> None:
    before = signal.signal(signal.SIGINT, handler)
    try:
        with pytest.raises(KeyboardInterrupt), hear_interrupts():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == handler
    finally:
        signal.signal(signal.SIGINT, before)
