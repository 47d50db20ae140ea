"""Faults, carried out: each begins, lasts and ends by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from atoll.world.lives import Lives
from atoll.world.machine import Machine
from atoll.world.network import Network
from atoll.world.scenario import Fault

SLOWEST = 60.0
"""How many times longer all takes on the slowest machine."""
CLOCK_S = 400_000.0
"""How far a clock jumps at most, seconds: four days and more."""


class Faults:
    """What can go wrong in a run.

    Args:
        net: All ways.
        lives: The machines' lives.
        gateway: The gateway's machine.
        nodes: The nodes' machines.
    """

    def __init__(
        self, net: Network, lives: Lives, gateway: Machine, nodes: Sequence[Machine]
    ) -> None:
        self._net, self._lives, self._gateway, self._nodes = net, lives, gateway, nodes

    async def carry_out(self, fault: Fault) -> None:
        """Wait for a fault's time, and let it happen."""
        await asyncio.sleep(fault.at_s - asyncio.get_running_loop().time())
        machine = self._nodes[fault.machine]
        other = self._gateway if fault.other < 0 else self._nodes[fault.other]
        if fault.kind.startswith("gateway"):
            machine = self._gateway
        self._net.trace.fault(
            fault.kind, f"{machine.name} for {fault.lasts_s:.2f} s (other: {other.name})"
        )
        match fault.kind:
            case "crash" | "power" | "gateway crash":
                await self._lives.kill(machine, power=fault.kind == "power")
                await self._back(machine, fault.lasts_s)
            case "restart" | "gateway restart":
                await self._lives.stop(machine)
                await self._back(machine, fault.lasts_s)
            case "engine":
                hit = self._gateway if fault.size < 0.3 else machine
                hit.kill_engines("was killed by signal 9 (killed, perhaps for want of memory)")
            case "partition" | "one-way" | "way":
                await self._cut(fault, machine, other)
            case _:
                await self._unwell(fault, machine)

    async def _back(self, machine: Machine, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self._lives.again(machine)

    async def _cut(self, fault: Fault, machine: Machine, other: Machine) -> None:
        everybody = [self._gateway, *self._nodes]
        others = [m for m in everybody if m is not machine] if fault.kind != "way" else [other]
        outward = fault.kind != "one-way" or fault.size < 0.5
        inward = fault.kind != "one-way" or not outward
        ways = [(machine, one) for one in others if outward]
        ways += [(one, machine) for one in others if inward]
        for way in ways:
            self._net.cut(*way)
        await asyncio.sleep(fault.lasts_s)
        for way in ways:
            self._net.mend(*way)

    async def _unwell(self, fault: Fault, machine: Machine) -> None:
        """Slow, without room on its disk, with a wrong clock, or lying."""
        hit = self._gateway if fault.size < 0.3 and fault.kind in ("disk", "clock") else machine
        begin, end = _changes(fault, hit)
        begin()
        await asyncio.sleep(fault.lasts_s)
        end()


def _changes(fault: Fault, machine: Machine) -> tuple[Callable[[], None], Callable[[], None]]:
    """What begins such a fault, and what ends it."""

    def set_to(
        name: str, bad: object, good: object
    ) -> tuple[Callable[[], None], Callable[[], None]]:
        return (lambda: setattr(machine, name, bad)), (lambda: setattr(machine, name, good))

    match fault.kind:
        case "slow":
            return set_to("slow", 1 + SLOWEST * fault.size, 1.0)
        case "disk":
            return set_to("disk_is_full", True, False)
        case "clock":
            jump_s = CLOCK_S * (2 * fault.size - 1)
            return set_to("clock_offset_s", jump_s, jump_s / 2)
        case "liar":
            return set_to("lies", True, False)
    raise AssertionError(f"nobody carries out {fault.kind}")
