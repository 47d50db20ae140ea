"""Processes of a benchmark: they talk in lines of JSON, some in a network of their own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from bench.slow_net import hand_out, leave_network, udp_socket

_FD_VARIABLE = "ATOLL_BENCH_CHANNEL"
_END_S = 10


@dataclass
class Child:
    """A process, what it said first, and its sockets if it has a network of its own."""

    process: asyncio.subprocess.Process
    place: dict[str, Any]
    front: socket.socket | None = None
    back: socket.socket | None = None

    async def hear(self) -> Any:
        """The next line that it says.

        Raises:
            RuntimeError: It ended instead.
        """
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if not line:
            raise RuntimeError("a process of the benchmark ended too early")
        return json.loads(line)

    def tell(self, **told: Any) -> None:
        """Say a line to it."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(told).encode() + b"\n")


@contextlib.asynccontextmanager
async def open_child(module: str, *arguments: str, hidden: bool) -> AsyncIterator[Child]:
    """Have `python -m MODULE ARGUMENTS` run; a `hidden` one calls `hide` before its first line."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, *arguments, *(["hidden"] if hidden else [])),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
            env={**os.environ, _FD_VARIABLE: str(theirs.fileno())},
        )
        theirs.close()
        child = Child(process, {})
        try:
            child.place = await child.hear()
            if hidden:
                _, fds, _, _ = socket.recv_fds(ours, 1, 2)
                child.front, child.back = (socket.socket(fileno=fd) for fd in fds)
            yield child
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), _END_S)
            except TimeoutError:
                process.kill()
                await process.wait()


def hide() -> None:
    """In a child: go to a network of one's own, and hand two of its sockets to the parent.

    Raises:
        OSError: This system has no namespaces for us.
    """
    leave_network()
    hand_out(int(os.environ[_FD_VARIABLE]), udp_socket(), udp_socket())


def say(**told: Any) -> None:
    """In a child: say a line to the parent."""
    print(json.dumps(told), flush=True)


async def heard() -> dict[str, Any]:
    """In a child: the next line of the parent; empty once it is gone."""
    line = await asyncio.to_thread(sys.stdin.readline)
    found: dict[str, Any] = json.loads(line) if line else {}
    return found
