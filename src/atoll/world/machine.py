"""A machine of the simulated world: what lives on it, and what befalls it."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field

_HERE: ContextVar[Machine] = ContextVar("machine")


@dataclass(slots=True, eq=False)
class Machine:
    """One host; what runs on it runs in its context, so that its own clock is asked.

    `life` counts its starts: what an earlier life still says is not heard.
    """

    name: str
    host: str
    alive: bool = False
    powered: bool = True
    life: int = 0
    slow: float = 1.0
    disk_is_full: bool = False
    lies: bool = False
    clock_offset_s: float = 0.0
    engines: list[Callable[[str], None]] = field(default_factory=list)
    """Kill the engine processes that run here, each with a reason."""
    context: Context = field(init=False)

    def __post_init__(self) -> None:
        self.context = copy_context()
        self.context.run(_HERE.set, self)

    def forget_engines(self) -> None:
        """They are gone with the machine, and nobody is told."""
        self.engines.clear()

    def kill_engines(self, reason: str) -> int:
        """Kill all engine processes; how many there were."""
        killed, self.engines = self.engines, []
        for kill in killed:
            kill(reason)
        return len(killed)


def wall_clock_offset_s() -> float:
    """How far the clock of the machine that asks is off, seconds."""
    here = _HERE.get(None)
    return here.clock_offset_s if here is not None else 0.0
