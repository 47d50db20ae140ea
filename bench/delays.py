"""A process of proxies whose delay is told: `python -m bench.delays PORT...`.

It says which port leads to which, and then takes `{"delay_s": D, "loss": L}` line by line.
Its own process, as a busy benchmark would hand things on late.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Sequence

import uvloop

from bench.children import Child, heard, open_child, say
from bench.slow_net import Path, slow_tcp


class Delays:
    """The parent's handle."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self.ways: dict[int, int] = {int(port): slow for port, slow in child.place["slow"].items()}
        """Of each port the one that leads there, with the delay."""

    async def set(self, delay_s: float, loss: float = 0.0) -> None:
        """From now on everything takes so long, each way, and so much of it is sent twice."""
        self._child.tell(delay_s=delay_s, loss=loss)
        await self._child.hear()


@contextlib.asynccontextmanager
async def open_delays(ports: Sequence[int]) -> AsyncIterator[Delays]:
    """Ways to these ports, at first without delay."""
    async with open_child("bench.delays", *map(str, ports), hidden=False) as child:
        yield Delays(child)


async def _serve(ports: Sequence[int]) -> None:
    now = [Path()]
    async with contextlib.AsyncExitStack() as stack:
        slow = {
            port: await stack.enter_async_context(slow_tcp(port, lambda: now[0])) for port in ports
        }
        say(slow=slow)
        while told := await heard():
            now[0] = Path(delay_s=told["delay_s"], loss=told["loss"])
            say(done=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve([int(port) for port in sys.argv[1:]]))
