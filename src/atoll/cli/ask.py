"""Asking the person at the terminal."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable

from atoll.cli.screen import say
from atoll.domain.errors import BadRequest

LINE_BYTES_MAX = 4096
YES = {"y", "yes"}


def has_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin is not None and sys.stdin.isatty()


def check_terminal(question: str, hint: str) -> None:
    """Make sure that somebody is there for `question`.

    Raises:
        BadRequest: Nobody is.
    """
    if not has_terminal():
        raise BadRequest(f"{question} has to be answered, and there is no terminal", hint=hint)


def ask(question: str) -> bool:
    """Ask, and wait for a line; yes is only what says so."""
    say(f"{question} [y/N]")
    return sys.stdin.readline(LINE_BYTES_MAX).strip().lower() in YES


async def wait_yes(question: str) -> bool:
    """Like `ask`, while other work goes on; cancelling it takes the question back."""
    say(f"{question} [y/N]")
    return (await wait_line()).strip().lower() in YES


async def wait_line() -> str:
    """The next line of standard input, also a last one without an end; empty where it ended."""
    loop = asyncio.get_running_loop()
    fd = sys.stdin.fileno()
    done: asyncio.Future[str] = loop.create_future()
    content = bytearray()

    def readable() -> None:
        # One byte at a time: what follows the line is for somebody else.
        byte = os.read(fd, 1)
        content.extend(byte)
        if (not byte or byte == b"\n" or len(content) > LINE_BYTES_MAX) and not done.done():
            done.set_result(content.decode("utf-8", "replace"))

    if not _watched(loop, fd, readable):
        while not done.done():  # a file: it never makes anybody wait
            readable()
        return done.result()
    try:
        return await done
    finally:
        loop.remove_reader(fd)


def _watched(loop: asyncio.AbstractEventLoop, fd: int, readable: Callable[[], None]) -> bool:
    try:
        loop.add_reader(fd, readable)
    except OSError:
        return False
    return True
