"""Prompts on some machines, answers on others: how many requests both keep up with.

    prompts a second  = sum over systems of 1 / prompt_s
    tokens a second   = min(prompts a second x answer,
                            sum over systems of streams x tokens / step(streams))

A step of those that answer computes no prompts, so that tokens come evenly; a stream waits for
its caches between its first token and its second: prompt x cell / rate.

Sources: Zhong et al., DistServe, OSDI 2024, section 3; Patel et al., Splitwise, ISCA 2024.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from atoll.domain.errors import BadRequest
from atoll.forecast.constants import Fitted
from atoll.forecast.fleet_file import Fleet, Part
from atoll.forecast.limits import Limit, late_limit, memory_limit, most
from atoll.forecast.outlook import KV_BYTES, Outlook, Workload
from atoll.forecast.power import desk_watts, server_watts
from atoll.forecast.systems import Systems, systems_of
from atoll.forecast.targets import Target


def disaggregated_outlook(fleet: Fleet, work: Workload, target: Target, fitted: Fitted) -> Outlook:
    """What a fleet does whose parts compute prompts, or answer, or do both for themselves.

    Raises:
        BadRequest: A part cannot hold the model, or too little is published of its devices.
    """
    bounded = bool(target.ttft_s or target.tpot_s)
    parts = [part if bounded else replace(part, software="tuned") for part in fleet.parts]
    systems = [systems_of(part, work, fitted.constants) for part in parts]
    prompts = [one for one in systems if one.part.role == "prefill"]
    for one in prompts:
        if not one.pace.prompt_s(work.prompt):
            raise BadRequest(
                f"what {one.part.line.device.name} computes in a second is not published",
                hint="describe the device in a file of your own, or let it answer",
            )
    answers = [_Answering(one, work) for one in systems if one.part.role == "decode"]
    fastest = min(prompts, key=lambda one: _first_s(one, work))
    first_s = _first_s(fastest, work)
    found, limit = _streams(answers, first_s, target)
    rate = sum(one.count * one.rate(n) for one, n in zip(answers, found, strict=True))
    most_rate = work.answer * sum(one.count / one.pace.prompt_s(work.prompt) for one in prompts)
    streams = sum(one.count * n for one, n in zip(answers, found, strict=True))
    notes = [f"a stream's caches are handed over in {_handover_s(fleet, work):.3g} s"]
    if rate > most_rate:
        streams = max(1, int(streams * most_rate / rate))
        rate = most_rate
        limit = Limit("prompts", f"those that compute prompts keep up with {rate:,.0f} tokens/s")
    kind = "serving_tpot" if bounded else "throughput"
    return Outlook(
        token_s=min(one.token_s(1) for one in answers),
        first_s=first_s,
        streams=streams,
        loaded_s=streams / rate if rate else min(one.token_s(1) for one in answers),
        limit=limit,
        watts=_watts(fleet.parts, fitted),
        alone_error=fitted.errors["serving_tpot"],
        error=fitted.errors[kind],
        power_error=fitted.errors["power"],
        notes=(*notes, *([limit.figure] if not streams else [])),
    )


@dataclass(frozen=True, slots=True)
class _Answering:
    """Systems that answer, each with as many streams."""

    systems: Systems
    work: Workload

    @property
    def count(self) -> int:
        return self.systems.count

    @property
    def room(self) -> int:
        """Streams of one system that there is memory for."""
        pace = self.systems.pace
        cells = self.work.shape.cached_positions(self.work.prompt + self.work.answer)
        return int(min(pace.streams_max, pace.room / cells))

    def token_s(self, streams: int) -> float:
        pace = self.systems.pace
        positions = streams * (self.work.prompt + self.work.answer / 2)
        return (pace.step_s(streams) + pace.caches_s(streams, positions)) / pace.tokens

    def rate(self, streams: int) -> float:
        return streams / self.token_s(streams) if streams else 0.0

    def full(self) -> Limit:
        pace = self.systems.pace
        free = pace.room * self.work.shape.kv_values * KV_BYTES
        if free / self.work.cached >= pace.streams_max:
            if self.systems.part.software == "served" and not self.systems.part.is_rings:
                return Limit("known", f"results are known of up to {pace.streams_max} streams")
            return Limit("scheduler", f"a scheduler takes {pace.streams_max:,} streams at once")
        return memory_limit(free, self.work.cached, "in each system that answers")


def _first_s(systems: Systems, work: Workload) -> float:
    return systems.pace.prompt_s(work.prompt) + systems.pace.way_s(work.prompt)


def _handover_s(fleet: Fleet, work: Workload) -> float:
    if not fleet.handover_rate:
        return 0.0
    cell = work.shape.kv_values * KV_BYTES
    return cell * work.shape.cached_positions(work.prompt) / fleet.handover_rate


def _streams(
    answers: Sequence[_Answering], first_s: float, target: Target
) -> tuple[list[int], Limit]:
    """Streams of a system of each part, and what one more would break for the largest."""

    def late(one: _Answering, streams: int) -> Limit | None:
        return late_limit(target, first_s, one.token_s(streams), f"with {streams} streams")

    found = [
        most(one.room, lambda n, one=one: late(one, n) is None) if one.room else 0  # type: ignore[misc]
        for one in answers
    ]
    largest = max(range(len(answers)), key=lambda at: answers[at].count * found[at])
    one, streams = answers[largest], found[largest]
    return found, (late(one, streams + 1) if streams < one.room else None) or one.full()


def _watts(parts: Sequence[Part], fitted: Fitted) -> float:
    """Of all machines at work, 0: not known."""
    total = 0.0
    for part in parts:
        devices = part.ring or (part.line.device,) * part.line.n
        if not all(device.power for device in devices):
            return 0.0
        if part.is_rings:
            each = sum(desk_watts(device, "", fitted.constants) for device in devices)
        else:
            each = server_watts(part.line.device, part.line.n, fitted.constants)
        total += part.count * each
    return total
