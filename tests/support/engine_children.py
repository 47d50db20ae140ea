"""Children for the tests of confinement: each `main` is run in a real child."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import platform
import resource
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

from atoll.engine.confine import confine
from atoll.engine.seccomp import MACHINES


def _attempt(action: object) -> str:
    try:
        action()  # type: ignore[operator]
    except (OSError, MemoryError, RuntimeError) as error:
        return type(error).__name__
    return "done"


def _call(name: str, *arguments: int) -> None:
    """A system call that Python has no function for."""
    calls = MACHINES[platform.machine()].calls
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(ctypes.c_long(calls[name]), *map(ctypes.c_long, arguments)) < 0:
        raise OSError(ctypes.get_errno(), name)


def _walk_around(given: dict[str, str]) -> dict[str, str]:
    """Other ways to what the filter is there to prevent; each harmless where it works."""
    parent, file = os.getppid(), given["file"]
    tries = {
        "tkill": lambda: _call("tkill", parent, 0),
        "tgkill": lambda: _call("tgkill", parent, parent, 0),
        "prlimit": lambda: resource.prlimit(parent, resource.RLIMIT_NOFILE),
        "utime": lambda: os.utime(file),
        "setxattr": lambda: os.setxattr(file, "user.x", b"", follow_symlinks=False),
        "removexattr": lambda: os.removexattr(file, "user.y"),
        "owner": lambda: fcntl.fcntl(0, fcntl.F_SETOWN, parent),
        "affinity": lambda: os.sched_setaffinity(parent, os.sched_getaffinity(parent)),
        "priority": lambda: os.setpriority(os.PRIO_PROCESS, parent, 0),
        "scheduler": lambda: os.sched_setscheduler(parent, os.SCHED_OTHER, os.sched_param(0)),
    }
    return {name: _attempt(action) for name, action in tries.items()}


def _probe(given: dict[str, str]) -> dict[str, object]:
    def connect_inet() -> None:
        socket.create_connection(("127.0.0.1", int(given["port"])), timeout=2).close()

    def write_file() -> None:
        Path(given["file"]).write_text("changed")

    def run_thread() -> None:
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()

    return {
        "isolation": confine(),
        "inet": _attempt(connect_inet),
        "unix": _attempt(lambda: socket.socket(socket.AF_UNIX).close()),
        "fork": _attempt(os.fork),
        "run": _attempt(lambda: subprocess.run([sys.executable, "-c", ""], check=True)),
        "write": _attempt(write_file),
        "remove": _attempt(lambda: Path(given["file"]).unlink()),
        "read": Path(given["file"]).read_text(),
        "kill_parent": _attempt(lambda: os.kill(os.getppid(), 0)),
        "thread": _attempt(run_thread),
        "environment": dict(os.environ),
        "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
        "files": len(list(Path("/dev/fd").iterdir())),
        "session": os.getsid(0) == os.getpid(),
    }


def main(argv: list[str]) -> None:
    connection = socket.socket(fileno=int(argv[0]))
    given = json.loads(connection.recv(65536))
    match given["do"]:
        case "probe":
            connection.sendall(json.dumps(_probe(given)).encode())
        case "walk around":
            connection.sendall(json.dumps(_walk_around(given)).encode())
        case "fill":
            try:
                kept = bytearray(int(given["bytes"]))
                connection.sendall(str(len(kept)).encode())
            except MemoryError:
                connection.sendall(b"MemoryError")
        case "pid":
            connection.sendall(str(os.getpid()).encode())
            connection.recv(1)
        case "abort":
            print("assertion failed: tensor", file=sys.stderr, flush=True)
            os.abort()
        case "crash":
            ctypes.string_at(1)
        case "exit":
            raise SystemExit(7)
        case "shout":
            for i in range(10_000):
                print(f"line {i} " + "x" * 5000, file=sys.stderr)
        case "stop":
            connection.sendall(b"stopped")
            signal.pause()
