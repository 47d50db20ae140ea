"""Running a coroutine until it ends or somebody asks the process to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import uvloop

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Result = TypeVar("Result")


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run `work`; Ctrl-C cancels it and raises KeyboardInterrupt."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def run_until_stopped(
    work: Coroutine[Any, Any, None], *, stop_at_eof: bool = False
) -> signal.Signals | None:
    """Run `work` until it ends, or until SIGINT, SIGTERM or SIGHUP cancels it.

    The first signal cancels `work`, which cleans up; further ones change nothing.

    Args:
        work: What to run.
        stop_at_eof: Stop as well when standard input ends, which is how a
            child learns that its parent is gone.

    Returns:
        The signal that stopped it; None where it ended by itself or standard
        input did.
    """
    return run(_guard(work, stop_at_eof=stop_at_eof))


async def _guard(work: Coroutine[Any, Any, None], *, stop_at_eof: bool) -> signal.Signals | None:
    loop = asyncio.get_running_loop()
    caught: list[signal.Signals] = []
    stopping = asyncio.Event()

    def stop(received: signal.Signals | None) -> None:
        if received is not None and not caught:
            caught.append(received)
        stopping.set()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop, number)
    try:
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(work, name="work")
            watching = tasks.create_task(_cancel_when(stopping, working), name="stop-signal")
            if stop_at_eof:
                _watch_input(loop, lambda: stop(None))
            working.add_done_callback(lambda _done: watching.cancel())
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
    finally:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)
        if stop_at_eof:
            loop.remove_reader(sys.stdin.fileno())
    return caught[0] if caught else None


async def _cancel_when(stopping: asyncio.Event, working: asyncio.Task[None]) -> None:
    await stopping.wait()
    working.cancel()


def _watch_input(loop: asyncio.AbstractEventLoop, ended: Any) -> None:
    fd = sys.stdin.fileno()

    def readable() -> None:
        with contextlib.suppress(BlockingIOError):
            if not os.read(fd, 4096):
                loop.remove_reader(fd)
                ended()

    loop.add_reader(fd, readable)


@contextmanager
def hear_interrupts() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt inside the block, whoever started this process.

    A shell without job control starts what runs in the background with SIGINT ignored,
    and all that this starts inherits it. Python then installs no handler, and
    `asyncio.Runner` none of its own; but a command that Ctrl-C makes answer belongs
    to whoever sits at its terminal.

    Source: POSIX.1-2017, Shell Command Language, 2.11 Signals and Error Handling.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
