"""Children for the tests of confinement: each `main` is run in a real child."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

from atoll.engine.confine import confine


def _attempt(action: object) -> str:
    try:
        action()  # type: ignore[operator]
    except (OSError, MemoryError, RuntimeError) as error:
        return type(error).__name__
    return "done"


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
