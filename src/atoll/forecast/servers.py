"""A server of accelerators: how many streams it serves at once, how fast, and what bounds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from atoll.forecast.constants import Constants, Fitted
from atoll.forecast.fleet_file import CacheTier
from atoll.forecast.fleets import FleetLine
from atoll.forecast.limits import Limit, late_limit, memory_limit, most
from atoll.forecast.outlook import USABLE, Outlook, Workload
from atoll.forecast.power import server_watts
from atoll.forecast.remote_memory import NOTE, RemoteCaches, remote_caches
from atoll.forecast.saturated import (
    SaturatedRun,
    room_streams,
    software_streams,
    stream_bytes,
    streams,
    tokens_per_s,
)
from atoll.forecast.serving import Load, Server, tpot_s, ttft_s
from atoll.forecast.targets import Target

STREAMS_MAX = 4096
SEEN_STREAMS = 320
"""The most in any row that `serving` was fitted from."""
SERVER_KV_BITS = 8.0
TUNED = "MLPerf"
"""How `saturated` was fitted: caches in bytes, and whose software."""


def server_outlook(
    fleet: FleetLine,
    work: Workload,
    target: Target,
    fitted: Fitted,
    caches: Sequence[CacheTier] = (),
) -> Outlook:
    """What the fleet does as one server.

    Within a target as servers under load behave, without one at full load: each has been held
    against results of its own kind, and neither against those of the other.
    """
    if target.ttft_s or target.tpot_s:
        return _within(fleet, work, target, fitted, caches)
    full = _full(fleet, work, fitted)
    if not caches:
        return full
    note = "caches beside the accelerators' memory are not counted at full load"
    return replace(full, notes=(*full.notes, note))


class _Times:
    """Time to the first token and per token, seconds, by the number of streams."""

    def __init__(
        self, fleet: FleetLine, work: Workload, fitted: Fitted, caches: RemoteCaches | None = None
    ) -> None:
        self._caches = caches
        self._server = Server(work.shape, fleet.device, fleet.n, work.bits)
        self._work = work
        self._constants = fitted.constants

    def of(self, n_streams: int) -> tuple[float, float]:
        more_s = self._caches.more_s(n_streams) if self._caches else 0.0
        load = Load(n_streams, self._work.prompt, self._work.answer)
        return (
            ttft_s(self._server, load, self._constants),
            tpot_s(self._server, load, self._constants) + more_s,
        )


def _within(
    fleet: FleetLine,
    work: Workload,
    target: Target,
    fitted: Fitted,
    caches: Sequence[CacheTier],
) -> Outlook:
    remote = remote_caches(caches, fleet.memory * USABLE - work.weights, work.cached)
    times = _Times(fleet, work, fitted, remote)
    room = min(STREAMS_MAX, int(remote.room / work.cached))

    def late(n: int) -> Limit | None:
        return late_limit(target, *times.of(n), f"with {n:,} stream{'' if n == 1 else 's'}")

    most_rate = tokens_per_s(_full_run(fleet, work), fitted.constants)

    def beyond(n: int) -> Limit | None:
        """Nobody gets more out of it within a target than at full load."""
        if n <= SEEN_STREAMS or n / times.of(n)[1] <= most_rate:
            return None
        return Limit("known", f"at full load it gives {most_rate:,.0f} tokens/s, and no more")

    found = most(room, lambda n: (late(n) or beyond(n)) is None) if room else 0
    limit = late(found + 1) or beyond(found + 1) if found < room else None
    if limit is None and room < STREAMS_MAX:
        limit = memory_limit(remote.room, work.cached)
    elif limit is None:
        limit = Limit("known", f"nothing is forecast of more than {STREAMS_MAX:,} streams")
    notes = [] if found else [limit.figure]
    if caches:
        notes.append(NOTE)
    if found > SEEN_STREAMS:
        notes.append(f"results are known of up to {SEEN_STREAMS} streams")
    first_s, alone_s = times.of(1)
    return Outlook(
        *(alone_s, first_s, found, times.of(max(1, found))[1], limit, _watts(fleet, fitted)),
        alone_error=fitted.errors["serving_tpot"],
        error=fitted.errors["serving_tpot"],
        power_error=fitted.errors["power"],
        notes=tuple(notes),
    )


def _full(fleet: FleetLine, work: Workload, fitted: Fitted) -> Outlook:
    constants = fitted.constants
    first_s, alone_s = _Times(fleet, work, fitted).of(1)
    run = _full_run(fleet, work)
    found = max(1, int(streams(run, constants))) if room_streams(run) >= 1 else 0
    loaded_s = max(1, found) / tokens_per_s(run, constants)
    limit = _full_limit(fleet.memory * USABLE - work.weights, run, constants)
    notes = ["at full load as tuned software does it: MLPerf's submissions"]
    return Outlook(
        *(alone_s, first_s, found, max(alone_s, loaded_s), limit, _watts(fleet, fitted)),
        alone_error=fitted.errors["serving_tpot"],
        error=fitted.errors["throughput"],
        power_error=fitted.errors["power"],
        notes=tuple(notes if found else [limit.figure, *notes]),
    )


def _full_run(fleet: FleetLine, work: Workload) -> SaturatedRun:
    return SaturatedRun(
        *(work.shape, fleet.device, fleet.n, work.bits, SERVER_KV_BITS),
        *(work.prompt, work.answer, TUNED),
    )


def _full_limit(free: float, run: SaturatedRun, constants: Constants) -> Limit:
    """Memory, or what software takes at once: the narrower of them."""
    room, taken = room_streams(run), software_streams(run, constants)
    memory = memory_limit(free, stream_bytes(run))
    if room < 1:
        return memory
    fewer = "fewer on average, as streams come and go"
    if room <= taken:
        return Limit("memory", f"{memory.figure}; {fewer}")
    return Limit("scheduler", f"a scheduler takes {taken:,.0f} streams at once at most; {fewer}")


def _watts(fleet: FleetLine, fitted: Fitted) -> float:
    if not fleet.device.power:
        return 0.0
    return server_watts(fleet.device, fleet.n, fitted.constants)
