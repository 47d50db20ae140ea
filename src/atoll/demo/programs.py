"""The `atoll` command's own programs as children: started, watched, and never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from atoll.domain.errors import AtollError
from atoll.engine.library import LIBRARY_VARIABLE

STOP_S = 15.0
"""How long a program may take to end when asked, before it is killed."""
LOG_LINES = 12
LINE_BYTES_MAX = 1 << 20
KEPT_VARIABLES = ("ATOLL_DEBUG", "ATOLL_LOG", LIBRARY_VARIABLE)


class ProgramDied(AtollError):
    """A program ended by itself; the message holds its last words."""


class Program:
    """A running program. Its talk goes to a log file; `first_line` reads its data."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def first_line(self) -> bytes:
        """The next line of its standard output.

        Raises:
            ProgramDied: It ended without one.
        """
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            await self.wait_died()
        return line

    async def wait_died(self) -> None:
        """Wait until it ends; never returns.

        Raises:
            ProgramDied: It has.
        """
        code = await self._process.wait()
        words = self.log.read_text("utf-8", "replace").splitlines()[-LOG_LINES:]
        end = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        raise ProgramDied(f"{self.name} ended {end}", hint="it said: " + "; ".join(words))

    async def stop(self) -> None:
        """Ask it to end, and kill it with its process group if it does not."""
        if self._process.returncode is None:
            self._process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await self._process.wait()
        except TimeoutError:
            # It leads its group, and is not waited for yet, so the id is still its own.
            os.killpg(self.pid, signal.SIGKILL)
            await self._process.wait()


@asynccontextmanager
async def started(name: str, arguments: Sequence[str], folder: Path) -> AsyncIterator[Program]:
    """Have `atoll ARGUMENTS` run inside the block.

    Its standard input is a pipe from us, so it can tell when we are gone. The
    user's own settings do not reach it.

    Args:
        name: What to call it.
        arguments: Of the command line.
        folder: Where its log goes.

    Raises:
        ProgramDied: It cannot be started.
    """
    settings = folder / "settings.toml"
    settings.touch()
    log = folder / f"{name}.log"
    with log.open("wb") as talk:
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "atoll", "--config", str(settings)),
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=talk,
                env=_environment(os.environ),
                start_new_session=True,
                limit=LINE_BYTES_MAX,
            )
        except OSError as error:
            raise ProgramDied(f"cannot start {name}: {error}") from error
    program = Program(name, process, log)
    try:
        yield program
    finally:
        await asyncio.shield(program.stop())


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in ours.items()
        if not name.startswith("ATOLL_") or name in KEPT_VARIABLES
    }
