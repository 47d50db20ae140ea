"""Programs forked from one process that has imported what the commands need.

To import that costs most of a second of processor time, and the tests start hundreds of
nodes and of commands. A fork has it at once. It is a process like any other: it runs the
`main` of the command line with arguments, variables, standard files and folder of its
own, and a node starts its stage as every node does. Each process of pytest has its own
server, started with the first program (`fork_server.py`). Where the system cannot do it,
programs are started plainly.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol, TypeVar

from tests.support.fork_server import Files, Order, line

SERVER = Path(__file__).with_name("fork_server.py")

Result = TypeVar("Result")


class Program(Protocol):
    """What tests use of `asyncio.subprocess.Process`."""

    pid: int

    @property
    def returncode(self) -> int | None: ...
    def send_signal(self, signal: int) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...
    async def wait(self) -> int: ...


class Forked:
    """A program that was forked; any event loop may wait for it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.ended = _lasting(Future[int]())

    @property
    def returncode(self) -> int | None:
        return self.ended.result() if self.ended.done() else None

    def send_signal(self, signal: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, signal)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        return await asyncio.wrap_future(self.ended)


class ForkServer:
    """The process that forks, and a thread that hears what becomes of the programs."""

    def __init__(self) -> None:
        self._connection, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                # -P: what lies beside the file hides no module of its name.
                [sys.executable, "-P", str(SERVER), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=clean_environment() | {"OPENBLAS_NUM_THREADS": "1"},
                pass_fds=(theirs.fileno(),),
            )
        self._numbers = itertools.count()
        self._ordered: dict[int, Future[Forked]] = {}
        self._running: dict[int, Forked] = {}
        self._hearing = threading.Thread(target=self._hear, name="fork-server", daemon=True)
        self._hearing.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    async def start(self, arguments: Sequence[str], log: Path) -> Forked:
        """Run `atoll ARGUMENTS` in this process's folder, with its variables.

        Raises:
            RuntimeError: It could not be started, or the server is gone.
        """
        path = str(log.absolute())
        files = Files(os.devnull, path, path)
        return await asyncio.wrap_future(self.order(arguments, clean_environment(), files))

    def order(
        self, arguments: Sequence[str], environment: Mapping[str, str], files: Files
    ) -> Future[Forked]:
        """Order a run of `atoll ARGUMENTS` in this process's folder.

        Raises:
            RuntimeError: The server is gone; as the future's: it could not be started.
        """
        number, started = next(self._numbers), _lasting(Future[Forked]())
        order = Order(number, list(arguments), dict(environment), str(Path.cwd()), files)
        self._ordered[number] = started
        try:
            self._connection.sendall(line(order))
        except OSError as error:
            raise RuntimeError(f"the fork server is gone: {error}") from error
        return started

    def close(self) -> None:
        """End the server, and with it what it forked and still runs."""
        self._connection.shutdown(socket.SHUT_WR)
        self._process.wait()
        self._hearing.join()
        self._connection.close()

    def _hear(self) -> None:
        with self._connection.makefile("rb") as answers:
            for what, number, told in map(json.loads, answers):
                if what == "started":
                    self._running[told] = Forked(told)
                    self._ordered.pop(number).set_result(self._running[told])
                elif what == "failed":
                    self._ordered.pop(number).set_exception(RuntimeError(f"not started: {told}"))
                else:
                    self._running.pop(number).ended.set_result(told)
        for started in list(self._ordered.values()):
            started.set_exception(RuntimeError("the fork server ended; its errors say why"))
        for program in self._running.values():
            program.ended.set_result(-signal.SIGKILL)


def _lasting(future: Future[Result]) -> Future[Result]:
    """A future that stays, whoever no longer waits for it."""
    future.set_running_or_notify_cancel()
    return future


def clean_environment() -> dict[str, str]:
    """This process's variables without those that set Atoll up."""
    return {key: value for key, value in os.environ.items() if "ATOLL" not in key}


@functools.cache
def _server() -> ForkServer:
    server = ForkServer()
    atexit.register(server.close)
    return server


def server_pid() -> int | None:
    """The server of this process; None until a program was started."""
    return _server().pid if _server.cache_info().currsize else None


def can_fork() -> bool:
    """Whether the system can do it."""
    return hasattr(os, "fork") and hasattr(os, "pidfd_open")


def run_forked(
    arguments: Sequence[str], environment: Mapping[str, str], stdin: str, timeout_s: float
) -> tuple[int, str, str]:
    """Run `atoll ARGUMENTS` to its end, in a fork.

    Returns:
        Its exit code as `subprocess` has it, its output and its errors.

    Raises:
        TimeoutError: It had not ended after `timeout_s`, and was killed.
        RuntimeError: It could not be started, or the server is gone.
    """
    with TemporaryDirectory() as folder:
        files = Files(*(str(Path(folder, name)) for name in ("stdin", "stdout", "stderr")))
        Path(files.read).write_text(stdin)
        program = _server().order(arguments, environment, files).result()
        try:
            code = program.ended.result(timeout_s)
        except TimeoutError:
            program.kill()
            raise
        return code, Path(files.out).read_text(), Path(files.err).read_text()


async def start_program(arguments: Sequence[str], log: Path) -> Program:
    """Start `atoll ARGUMENTS` in a process of its own, which writes to `log`."""
    if can_fork():
        return await _server().start(arguments, log)
    return await start_plainly(["-m", "atoll", *arguments], log)


async def start_plainly(arguments: Sequence[str], log: Path) -> Program:
    """Start Python with these arguments, from its beginning."""
    with log.open("wb") as out:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=clean_environment(),
        )
