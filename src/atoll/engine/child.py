"""The parent's end of an engine process: start it, talk to it, notice its death.

Messages are written at once, inside the callback that causes them, and replies
are handed out straight from the loop's read: a transport would hold a write
back until the callback ends, which on the way of a token costs more than the
write itself.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

import msgspec

from atoll.domain.errors import EngineFault
from atoll.engine.channel import READ_BYTES, Broken, Splitter, pack, widen_buffers
from atoll.engine.process import Child, spawn_confined

Reply = TypeVar("Reply")
CLOSE_S = 3.0


class EngineChild(Generic[Reply]):
    """One running child and its socket.

    Args:
        title: What it is called in messages ("stage process").
        decoder: Decodes what it answers, `Broken` among it.
        on_reply: Takes each answer after the first, with its payload.
        on_exit: Called once if it ends without being asked to, with the reason.
    """

    def __init__(
        self,
        title: str,
        decoder: msgspec.msgpack.Decoder[Reply | Broken],
        on_reply: Callable[[Reply, bytes], None],
        on_exit: Callable[[EngineFault], None],
    ) -> None:
        self._title = title
        self._splitter = Splitter(decoder)
        self._on_reply, self._on_exit = on_reply, on_exit
        self._encode = msgspec.msgpack.Encoder().encode
        self._socket: socket.socket | None = None
        self._buffer = bytearray(READ_BYTES)
        self._unsent = bytearray()
        self._child: Child | None = None
        self._closing = False
        self._fault: EngineFault | None = None
        self._first: asyncio.Future[Reply] | None = None

    async def start(
        self,
        module: str,
        first: msgspec.Struct,
        *,
        memory_bytes: int | None,
        env: Mapping[str, str],
        devices: bool = False,
    ) -> Reply:
        """Start `main` of `module`, send the `first` message and wait for its answer.

        Args:
            module: As for `spawn_confined`, as are the others.
            first: What to load or do.
            memory_bytes: Bound on its address space; None for none.
            env: Further variables.
            devices: Whether it may open a GPU.

        Raises:
            EngineFault: It cannot be started, or ended instead of answering.
        """
        loop = asyncio.get_running_loop()
        self._first = loop.create_future()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        widen_buffers(ours)
        widen_buffers(theirs)
        try:
            self._child = await spawn_confined(
                *(module, theirs),
                name=self._title,
                memory_bytes=memory_bytes,
                environment=env,
                devices=devices,
            )
        except BaseException:
            ours.close()
            raise
        if self._closing:
            ours.close()
            await self._child.close()
            return await self._first
        ours.setblocking(False)
        self._socket = ours
        loop.add_reader(ours, self._readable)
        self.send(first)
        return await self._first

    @property
    def pid(self) -> int | None:
        """The child's process id."""
        return self._child.pid if self._child else None

    def send(self, message: msgspec.Struct, *payloads: bytes | memoryview) -> None:
        """Send one message without waiting; the machines keep at most one batch under way."""
        if self._socket is None:
            return
        data = pack(self._encode(message), *payloads)
        if self._unsent:
            self._unsent += data
            return
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # it is gone: the reader notices and tells why
        if sent < len(data):
            self._unsent += memoryview(data)[sent:]
            asyncio.get_running_loop().add_writer(self._socket, self._writable)

    async def close(self) -> None:
        """End the child and wait until it is gone."""
        self._closing = True
        self._hang_up()
        if self._first is not None and not self._first.done():
            # Whoever still waits in `start` would do so for ever.
            self._first.set_exception(EngineFault(f"the {self._title} was closed while it started"))
        if self._child is not None:
            await self._child.close(CLOSE_S)

    def _writable(self) -> None:
        assert self._socket is not None
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            return
        except OSError:
            sent = len(self._unsent)  # it is gone: the reader notices and tells why
        del self._unsent[:sent]
        if not self._unsent:
            asyncio.get_running_loop().remove_writer(self._socket)

    def _readable(self) -> None:
        assert self._socket is not None
        try:
            size = self._socket.recv_into(self._buffer)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        if size == 0:
            self._lost()
            return
        try:
            for reply, payload in self._splitter.feed(memoryview(self._buffer)[:size]):
                self._take(reply, payload)
        except EngineFault as fault:
            self._fault = fault
            self._lost()

    def _take(self, reply: Reply | Broken, payload: bytes) -> None:
        if isinstance(reply, Broken):
            raise EngineFault(reply.problem, hint=reply.hint)
        if self._first is not None and not self._first.done():
            self._first.set_result(reply)
        else:
            self._on_reply(reply, payload)

    def _hang_up(self) -> None:
        if self._socket is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._socket)
            loop.remove_writer(self._socket)
            self._socket.close()
            self._socket = None

    def _lost(self) -> None:
        """The child closed its end or broke the rules; say why once it has ended."""
        self._hang_up()
        if self._child is not None and not self._closing:
            if self._fault is not None:
                self._child.kill()
            self._child.when_ended(self._ended)

    def _ended(self, reason: str) -> None:
        fault = self._fault or EngineFault(reason)
        if self._first is not None and not self._first.done():
            self._first.set_exception(fault)
        elif not self._closing:
            self._on_exit(fault)
