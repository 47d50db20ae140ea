"""Rings of machines: how many streams they serve at once, how fast, and what bounds them."""

from __future__ import annotations

from atoll.forecast.constants import Fitted
from atoll.forecast.limits import Limit, late_limit, memory_limit, most
from atoll.forecast.outlook import KV_BYTES, Outlook, Workload
from atoll.forecast.power import desk_watts
from atoll.forecast.systems import Systems
from atoll.forecast.targets import Target


def ring_outlook(systems: Systems, work: Workload, target: Target, fitted: Fitted) -> Outlook:
    """What rings alike do. In each, flights of streams follow each other, so that machines compute
    while others' frames are on their way.
    """
    part, pace, count = systems.part, systems.pace, systems.count
    ring = _Ring(systems, work)
    found, limit = _most_streams(ring, target)
    devices = part.ring * count or (part.line.device,) * (part.line.n * part.count)
    notes = [
        f"guesses: a pass gives {pace.tokens:.2f} tokens on average"
        if part.drafts.depth
        else "nothing is guessed: drafts make a ring faster where they are right",
        "that many streams' rows cost what a prompt's do is not held against results",
    ]
    if count > 1:
        alone = systems.size == 1
        notes.append(
            f"{count} machines, each alone" if alone else f"{count} rings of {systems.size}"
        )
    if not found:
        notes.append(limit.figure)
    kinds = {device.name: device for device in devices}
    for device in kinds.values():
        if device.timing is not None:
            notes.append(f"{device.name} was measured; the errors are of machines that were not")
        if not device.flops.get("fp16"):
            notes.append(f"what {device.name} computes in a second is not published: not counted")
    watts = 0.0
    if all(device.power for device in kinds.values()):
        each = {name: desk_watts(device, "", fitted.constants) for name, device in kinds.items()}
        watts = sum(each[device.name] for device in devices)
    error = fitted.errors["wide" if systems.size > 1 else "local"]
    return Outlook(
        *(ring.alone_s, ring.first_s, count * found, ring.token_s(max(1, found)), limit, watts),
        alone_error=error,
        error=error,
        power_error=fitted.errors["power_desk"],
        notes=tuple(notes),
    )


class _Ring:
    """One of the rings.

    `alone_s` and `first_s` are a token and a first token of one stream, seconds; `room` is how
    many streams' caches and sessions its machines hold.
    """

    def __init__(self, systems: Systems, work: Workload) -> None:
        pace = systems.pace
        self.is_alone = systems.size == 1
        self._pace = pace
        self._prompt_s = pace.prompt_s(work.prompt)
        self._answer = work.answer
        self._context = work.prompt + work.answer / 2
        cell = work.shape.kv_values * KV_BYTES
        self._cached = work.cached
        self._free = cell * pace.room
        self._sessions = pace.streams_max
        self.room = int(min(pace.streams_max, self._free / self._cached))
        self.alone_s = self._lap_s(1) / pace.tokens
        self.first_s = self._prompt_s + pace.way_s(work.prompt)

    def _lap_s(self, streams: int) -> float:
        return self._pace.step_s(streams) + self._pace.caches_s(streams, streams * self._context)

    def token_s(self, streams: int) -> float:
        """A token's time with so many streams, of which some begin meanwhile: seconds."""
        if streams == 1:
            return self.alone_s
        pace = self._pace
        begins_s = streams * pace.tokens / self._answer * self._prompt_s
        works_s = pace.works_s(streams, streams * self._context) + begins_s
        return max(self._lap_s(streams), works_s) / pace.tokens

    def late(self, target: Target, streams: int) -> Limit | None:
        """The bound of the target that so many streams miss."""
        where = "a machine" if self.is_alone else "a ring"
        load = "for a stream alone" if streams == 1 else f"with {streams} streams of {where}"
        return late_limit(target, self.first_s, self.token_s(streams), load)

    def full(self) -> Limit:
        """That there is no room for more streams."""
        if self._free / self._cached >= self._sessions:
            return Limit("sessions", f"a stage holds {self._sessions} sessions")
        where = "in each machine" if self.is_alone else "in each ring"
        return memory_limit(self._free, self._cached, where)


def _most_streams(ring: _Ring, target: Target) -> tuple[int, Limit]:
    """As many streams as the target and the machines allow, and what one more would break."""
    if not ring.room:
        return 0, ring.late(target, 1) or ring.full()
    found = most(ring.room, lambda streams: ring.late(target, streams) is None)
    late = ring.late(target, found + 1) if found < ring.room else None
    return found, late or ring.full()
