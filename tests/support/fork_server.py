"""The process that programs are forked from: `fork_server.py DESCRIPTOR`; see `forks.py`.

It has imported what the commands need, and runs no thread and no event loop, which a
fork would lose. It ends when nobody is there to order any more, and the system kills
what it forked when it ends, however it does.
"""

from __future__ import annotations

import atexit
import gc
import importlib.util
import json
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple, NoReturn

import psutil

from atoll.cli import app
from atoll.engine import confine

PRELOADED = (
    *(f"atoll.cli.{name}" for name in app.COMMANDS),
    # What a node imports only once it needs it.
    "atoll.store.remote",
    "iroh",
    "numpy.ma",
    "numpy.random",
)
READ_BYTES = 1 << 16


class Files(NamedTuple):
    """Where a program reads its standard input, and writes its output and its errors."""

    read: str
    out: str
    err: str


class Order(NamedTuple):
    """A program to start; the answers are `started NUMBER PID` or `failed NUMBER WHY`, and
    later `ended PID CODE`.
    """

    number: int
    arguments: list[str]
    environment: dict[str, str]
    folder: str
    files: Files


def line(message: Sequence[object]) -> bytes:
    """A message as both sides send it."""
    return json.dumps(message).encode() + b"\n"


def open_files(files: Files) -> tuple[int, int, int]:
    """Descriptors of the three; one file for output and errors is opened once.

    Raises:
        OSError: One of them cannot be opened.
    """
    with ExitStack() as opened:

        def open_one(path: str, flags: int) -> int:
            descriptor = os.open(path, flags, 0o666)
            opened.callback(os.close, descriptor)
            return descriptor

        write = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        read, out = open_one(files.read, os.O_RDONLY), open_one(files.out, write)
        err = os.dup(out) if files.err == files.out else open_one(files.err, write)
        opened.pop_all()
    return read, out, err


def serve(connection: socket.socket) -> Order | None:
    """Fork as ordered until nobody is there to order; in a fork, return what it is to be.

    A fork's standard files are its own then, and it holds nothing of the server.
    """
    server = os.getpid()
    children: dict[int, int] = {}
    unread = b""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd != connection.fileno():
                poll.unregister(fd)
                os.close(fd)
                pid, status = os.waitpid(children.pop(fd), 0)
                connection.sendall(line(["ended", pid, os.waitstatus_to_exitcode(status)]))
                continue
            if not (read := connection.recv(READ_BYTES)):
                return None
            *lines, unread = (unread + read).split(b"\n")
            for order in (Order(*json.loads(words)) for words in lines):
                try:
                    opened = open_files(Files(*order.files))
                except OSError as error:
                    connection.sendall(line(["failed", order.number, str(error)]))
                    continue
                if not (pid := os.fork()):
                    confine._end_with_parent(server)
                    for number, file in enumerate(opened):
                        os.dup2(file, number)
                    for held in (connection.detach(), *opened, *children):
                        os.close(held)
                    return order
                for file in opened:
                    os.close(file)
                connection.sendall(line(["started", order.number, pid]))
                children[watch := os.pidfd_open(pid)] = pid
                poll.register(watch, select.POLLIN)


def run(order: Order) -> int:
    """Be the program that was ordered; the interpreter has reseeded `random` at the fork."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(order.environment)
    os.chdir(order.folder)
    sys.argv = ["atoll", *order.arguments]
    return app.main(order.arguments)


def end(code: int) -> NoReturn:
    """Do what the interpreter does at its end, but for taking its modules down: that
    copies what is shared, which costs as much as all before it.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main(descriptor: int) -> None:
    """Be the server, or what it forked."""
    # Ctrl-C is for pytest, and for the programs.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in PRELOADED:
        # Not each system has a wheel of iroh.
        if importlib.util.find_spec(name):
            importlib.import_module(name)
    if (threads := psutil.Process().num_threads()) > 1:
        raise SystemExit(f"{threads} threads run after the imports; a fork would lose all but one")
    # What collections leave alone stays in pages that the forks share.
    gc.freeze()
    try:
        order = serve(socket.socket(fileno=descriptor))
    except ConnectionError:
        return
    if order:
        end(run(order))


if __name__ == "__main__":
    main(int(sys.argv[1]))
