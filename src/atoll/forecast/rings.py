"""Rings of machines: how many streams they serve at once, how fast, and what bounds them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from atoll.forecast.constants import Fitted
from atoll.forecast.decode import DecodeRun, prompt_s, rows_s, usual_runtime
from atoll.forecast.fleets import FleetLine
from atoll.forecast.limits import Limit, late_limit, memory_limit, most
from atoll.forecast.outlook import USABLE, Outlook, Workload
from atoll.forecast.power import desk_watts
from atoll.forecast.spread import pipeline_s
from atoll.forecast.targets import Target

SLOTS_MAX = 256
"""Sessions of a stage: llama.cpp's LLAMA_MAX_SEQ."""
SOFTWARE = "Atoll"


def ring_outlook(fleet: FleetLine, work: Workload, target: Target, fitted: Fitted) -> Outlook:
    """Rings of as few machines as hold the model and a stream. In each, flights of as many rows
    follow each other, so many that all machines compute while others' frames are on their way.
    """
    device, constants = fleet.device, fitted.constants
    ring = _Ring(fleet, work, fitted)
    load = _most_load(ring, target)
    rings = max(1, fleet.n // ring.size)
    notes = [
        "nothing is guessed: drafts make a ring faster where they are right",
        "that many streams' rows cost what a prompt's do is not held against results",
    ]
    if rings > 1:
        alone = ring.size == 1
        notes.append(f"{rings} machines, each alone" if alone else f"{rings} rings of {ring.size}")
    if not load.streams:
        notes.append(load.limit.figure)
    if not device.flops.get("fp16"):
        notes.append(f"what {device.name} computes in a second is not published: not counted")
    error = fitted.errors["wide" if ring.size > 1 else "local"]
    watts = fleet.n * desk_watts(device, "", constants) if device.power else 0.0
    return Outlook(
        *(ring.alone_s, ring.first_s, rings * load.streams, load.token_s, load.limit, watts),
        alone_error=error,
        error=error,
        power_error=fitted.errors["power_desk"],
        notes=tuple(notes),
    )


@dataclass(frozen=True, slots=True)
class _Load:
    """Streams of one ring, a token's time with them, seconds, and what one more would break."""

    streams: int
    token_s: float
    limit: Limit


class _Ring:
    """One ring of the fleet's machines.

    `size` is of how many; `alone_s` and `first_s` are a token and a first token of one stream,
    seconds; `room` is how many streams' caches and sessions its machines hold.
    """

    def __init__(self, fleet: FleetLine, work: Workload, fitted: Fitted) -> None:
        each = fleet.device.memory * USABLE
        self.size = min(fleet.n, math.ceil((work.weights + work.cached) / each))
        self.free = self.size * each - work.weights
        self.room = int(min(SLOTS_MAX, self.free / work.cached))
        self._work, self._constants = work, fitted.constants
        context = work.prompt + work.answer / 2
        runtime = usual_runtime(fleet.device)
        self._run = DecodeRun(work.shape, fleet.device, work.bits, runtime, context=context)
        ways = (fleet.way_s or 0.0,) * (self.size if self.size > 1 else 0)
        self.alone_s = pipeline_s(self._run, ways, SOFTWARE, self._constants)
        self._prompt_s = prompt_s(self._run, work.prompt, self._constants)
        self.first_s = self.alone_s + self._prompt_s
        # Distance is the same however many rows a flight has.
        self._distance_s = self.alone_s - rows_s(self._run, 1, self._constants)

    def token_s(self, rows: int) -> float:
        """A token's time where flights have so many rows, seconds."""
        return self._own_s(rows) + self._distance_s

    def flights(self, rows: int) -> int:
        """How many flights of so many rows keep all machines busy."""
        return math.ceil(self.token_s(rows) * self.size / self._own_s(rows))

    def _own_s(self, rows: int) -> float:
        """A flight's time on all machines, with its part of new prompts, seconds."""
        asked_s = self._prompt_s / self._work.answer
        return rows_s(self._run, rows, self._constants) + rows * asked_s

    def late(self, target: Target, rows: int) -> Limit | None:
        """The bound of the target that flights of so many rows miss; 0: a stream alone."""
        if not rows:
            return late_limit(target, self.first_s, self.alone_s, "for a stream alone")
        if self.size == 1:
            load = f"with {_count(rows, 'stream')} of a machine"
        else:
            load = f"with {_count(rows, 'row')} in a flight"
        return late_limit(target, self.first_s, self.token_s(rows), load)

    def full(self, rows: int) -> Limit:
        """That there is no room for more than these flights."""
        each = "each ring" if self.size > 1 else "each machine"
        limit = memory_limit(self.free, self._work.cached, f"in {each}")
        if self.free / self._work.cached >= SLOTS_MAX:
            limit = Limit("sessions", f"a stage holds {SLOTS_MAX} sessions")
        if not rows or self.size == 1:
            return limit
        flights = min(self.room, self.flights(rows))
        return Limit(
            limit.bound, f"{limit.figure}, in {_count(flights, 'flight')} of {_count(rows, 'row')}"
        )


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _most_load(ring: _Ring, target: Target) -> _Load:
    """As many streams as the target and the machines allow."""
    late = ring.late(target, 0)
    if late or not ring.room:
        return _Load(0, ring.token_s(1), late or ring.full(0))
    late = ring.late(target, 1)
    if late:
        return _Load(1, ring.alone_s, late)

    def is_met(rows: int) -> bool:
        return rows * ring.flights(rows) <= ring.room and ring.late(target, rows) is None

    # Flights of one row that do not all fit leave machines idle.
    rows = max(1, most(SLOTS_MAX, is_met))
    streams = min(ring.room, rows * ring.flights(rows))
    late = ring.late(target, rows + 1) if streams < ring.room else None
    return _Load(streams, ring.token_s(rows), late or ring.full(rows))
