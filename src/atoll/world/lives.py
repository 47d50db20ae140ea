"""Lives of machines: started, stopped in good order, killed, and started again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from atoll.world.machine import Machine
from atoll.world.network import Network

Live = Callable[[], Coroutine[Any, Any, None]]


class Lives:
    """Who lives now. A mistake in somebody's code ends the run.

    Args:
        net: All ways.
        tasks: Where they live.
    """

    def __init__(self, net: Network, tasks: asyncio.TaskGroup) -> None:
        self._net, self._tasks = net, tasks
        self._lives: dict[Machine, Live] = {}
        self._running: dict[Machine, asyncio.Task[None]] = {}

    def begin(self, machine: Machine, live: Live) -> None:
        """Switch a machine on."""
        self._lives[machine] = live
        self._start(machine)

    def _start(self, machine: Machine) -> None:
        machine.life += 1
        machine.alive = machine.powered = True
        work = self._lives[machine]()
        self._running[machine] = self._tasks.create_task(
            work, name=machine.name, context=machine.context
        )
        self._net.look_again()

    async def stop(self, machine: Machine) -> None:
        """End its program in good order: it can say goodbye."""
        task = self._running.pop(machine, None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            machine.alive = False
            self._net.died(machine)

    async def kill(self, machine: Machine, *, power: bool) -> None:
        """Its program is gone at once, and with `power` all that the machine would still say."""
        task = self._running.pop(machine, None)
        if task is None:
            return
        machine.alive, machine.powered = False, not power
        machine.forget_engines()
        self._net.died(machine)
        # What it still does in Python reaches nobody.
        task.cancel()
        await asyncio.wait([task])

    def lives(self, machine: Machine) -> bool:
        """Whether it runs."""
        return machine in self._running

    def again(self, machine: Machine) -> None:
        """It is back."""
        if machine not in self._running:
            self._start(machine)
