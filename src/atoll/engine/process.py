"""Engine children: started confined, listened to, and ended.

A child is a Python process with one inherited socket and next to nothing else
(`engine.confine`). It dies with its parent, and the parent knows at once when
it dies, and of what.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import cast

from atoll.domain.errors import EngineFault
from atoll.engine.confine import Limits, confine, missing, run_child
from atoll.engine.library import LIBRARY_VARIABLE

__all__ = ["Child", "confine", "missing", "run_child", "spawn_confined"]

log = logging.getLogger(__name__)

CLOSE_S = 5.0
LINE_CHARS_MAX = 1000
LINES_PER_MINUTE_MAX = 120
_MINUTE_S = 60.0

PASSED_ON = (
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "DYLD_FALLBACK_LIBRARY_PATH",
    LIBRARY_VARIABLE,
    "CUDA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "GGML_VK_VISIBLE_DEVICES",
    "VK_DRIVER_FILES",
)
"""Variables that decide which library the engine is and which GPUs it finds; no other is
inherited."""

FIXED = {
    "PYTHONUTF8": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    # A child multiplies no matrices in numpy; its threads would only take address space.
    "OPENBLAS_NUM_THREADS": "1",
    # On a failed assertion the engine would start a debugger for its backtrace.
    "GGML_NO_BACKTRACE": "1",
}

_ENTRY = "from atoll.engine.confine import run_child; run_child()"


def death_sentence(name: str, returncode: int) -> str:
    """How a process ended, for people.

    Args:
        name: What the process was ("stage process").
        returncode: As `subprocess` has it: negative for a signal.
    """
    if returncode >= 0:
        return f"{name} ended with exit code {returncode}"
    number = -returncode
    try:
        what = {
            signal.SIGABRT: "abort",
            signal.SIGKILL: "killed, perhaps for want of memory",
            signal.SIGSEGV: "invalid memory access",
            signal.SIGXCPU: "processor time used up",
        }.get(signal.Signals(number), signal.strsignal(number) or "unknown")
    except ValueError:
        what = "unknown"
    return f"{name} was killed by signal {number} ({what})"


class _Watch(asyncio.SubprocessProtocol):
    """Logs what the child writes, line by line and bounded, and notes its end."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self._name, self._loop = name, loop
        self._transport: asyncio.SubprocessTransport | None = None
        self._rest = b""
        self._minute, self._lines = 0.0, 0
        self.last_line = ""
        self.exited: asyncio.Future[int] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, _fd: int, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_CHARS_MAX:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            self._say(line)

    def _say(self, line: bytes) -> None:
        text = line[:LINE_CHARS_MAX].decode(errors="replace").strip()
        if not text:
            return
        self.last_line = text
        now = self._loop.time()
        if now - self._minute > _MINUTE_S:
            self._minute, self._lines = now, 0
        self._lines += 1
        if self._lines < LINES_PER_MINUTE_MAX:
            log.warning("child.said child=%r text=%r", self._name, text)
        elif self._lines == LINES_PER_MINUTE_MAX:
            log.warning("child.too_loud child=%r rest_of_minute=dropped", self._name)

    def pipe_connection_lost(self, _fd: int, _exc: Exception | None) -> None:
        self._say(self._rest)
        self._rest = b""

    def process_exited(self) -> None:
        code = self._transport.get_returncode() if self._transport is not None else None
        if not self.exited.done():
            self.exited.set_result(-signal.SIGKILL if code is None else code)


class Child:
    """A confined child process. Close it in the loop that started it."""

    def __init__(self, name: str, transport: asyncio.SubprocessTransport, watch: _Watch) -> None:
        self.name = name
        self.pid: int = transport.get_pid()
        self._transport, self._watch = transport, watch

    @property
    def alive(self) -> bool:
        """Whether it still runs, as far as is known."""
        return not self._watch.exited.done()

    @property
    def returncode(self) -> int | None:
        """Exit code, or minus the signal's number; None while it runs."""
        return self._watch.exited.result() if self._watch.exited.done() else None

    @property
    def last_line(self) -> str:
        """The last thing it wrote to standard error, for the log only."""
        return self._watch.last_line

    async def wait_ended(self) -> str:
        """Wait for its end; returns a sentence that says how it came."""
        return death_sentence(self.name, await asyncio.shield(self._watch.exited))

    def when_ended(self, callback: Callable[[str], None]) -> None:
        """Call `callback` with the sentence of `wait_ended` once it has ended."""
        self._watch.exited.add_done_callback(
            lambda exited: callback(death_sentence(self.name, exited.result()))
        )

    def kill(self) -> None:
        """Kill it now, whatever it does; harmless if it has ended."""
        if self.alive:
            # uvloop knows of an end a turn before it tells, and refuses signals from then on.
            with contextlib.suppress(ProcessLookupError):
                self._transport.kill()

    async def close(self, grace_s: float = 0.0) -> str:
        """End it and wait for the end.

        Args:
            grace_s: How long it may take to end by itself (having seen its
                socket close) before it is killed.

        Returns:
            The sentence of `wait_ended`.

        Raises:
            EngineFault: It did not end even when killed (stuck in the kernel).
        """
        try:
            if grace_s > 0 and self.alive:
                await asyncio.wait([self._watch.exited], timeout=grace_s)
            self.kill()
            async with asyncio.timeout(CLOSE_S):
                return await self.wait_ended()
        except TimeoutError:
            raise EngineFault(f"{self.name} (process {self.pid}) cannot be ended") from None
        finally:
            self.kill()
            self._transport.close()


async def spawn_confined(
    module: str,
    connection: socket.socket,
    *,
    name: str,
    memory_bytes: int | None = None,
    environment: Mapping[str, str] | None = None,
    network: bool = False,
    devices: bool = False,
) -> Child:
    """Start `main([FD])` of `module` in a confined child.

    Args:
        module: Its `main` gets the inherited descriptor's number as a string,
            and calls `confine()` for the report of what holds.
        connection: The child's end of a socket pair; closed here in any case.
        name: What to call it in logs and errors ("stage process").
        memory_bytes: Bound on its address space; None for none.
        environment: Further variables, such as OMP_NUM_THREADS.
        network: Leave it the network and all system calls.
        devices: Let it open files for writing, which a GPU's driver needs.

    Raises:
        EngineFault: The process could not be started.
    """
    loop = asyncio.get_running_loop()
    limits = Limits(memory_bytes, os.getpid(), network, devices)
    inherited = {key: os.environ[key] for key in PASSED_ON if key in os.environ}
    child_environment = inherited | FIXED | dict(environment or {}) | limits.to_environment()
    try:
        transport, watch = await loop.subprocess_exec(
            lambda: _Watch(name, loop),
            *(sys.executable, "-P", "-c", _ENTRY, module, str(connection.fileno())),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=(connection.fileno(),),
            env=child_environment,
            start_new_session=True,
        )
    except OSError as error:
        raise EngineFault(f"cannot start the {name}: {error}") from error
    finally:
        connection.close()
    return Child(name, transport, watch)
