"""What each of several fleets would do with a model: speed, how many users, power, cost.

Chips with a fixed schedule, servers of accelerators and rings of machines have cost models of
their own (`lpu`, `serving` and `decode`, `spread`); here they answer the same questions. With
each goes how far forecasts of its kind were off where it could be seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from atoll.domain.errors import BadRequest
from atoll.forecast import lpu
from atoll.forecast.constants import Errors, Fitted
from atoll.forecast.decode import DecodeRun, prompt_s, rows_s, usual_runtime
from atoll.forecast.fleets import FleetLine
from atoll.forecast.power import desk_watts, server_watts
from atoll.forecast.prices import Paid, hourly_usd
from atoll.forecast.saturated import SaturatedRun, streams, tokens_per_s
from atoll.forecast.serving import Load, Server, tpot_s, ttft_s
from atoll.forecast.shapes import ModelShape
from atoll.forecast.spread import pipeline_s
from atoll.forecast.targets import Target

USABLE = 0.9
"""Share of memory for weights and caches."""
STREAMS_MAX = 4096
SLOTS_MAX = 256
"""Sessions of a stage: llama.cpp's LLAMA_MAX_SEQ."""
SEEN_STREAMS = 320
"""The most in any row that `serving` was fitted from."""
SERVER_KV_BITS = 8.0
TUNED = "MLPerf"
"""How `saturated` was fitted: caches in bytes, and whose software."""
TOKENS_MAX = 1e7
LPU_BITS = 8.0
"""Of a weight on LPUs: what chip counts of public systems imply (a byte a weight)."""
RING = "Atoll"


@dataclass(frozen=True, slots=True)
class Workload:
    """The model, bits of a weight, tokens of a request, and how devices are paid for."""

    shape: ModelShape
    bits: float
    prompt: float
    answer: float
    paid: Paid = "on-demand"


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a fleet would do; 0: not known, and `notes` say why.

    `token_s` and `first_s` are of a stream alone. `streams` is how many the target allows at
    once (no target: all there is room for), `loaded_s` a token's time with so many, and
    `tokens_per_s` what they get together. `fleets` is how many of it the rate needs. `error` is
    how far such forecasts were off.
    """

    fleet: FleetLine
    token_s: float
    first_s: float
    streams: int
    loaded_s: float
    tokens_per_s: float
    watts: float
    hourly: float
    fleets: int
    error: Errors
    notes: tuple[str, ...] = ()

    @property
    def joules_per_token(self) -> float:
        """Energy of a token under that load, 0: not known."""
        return self.watts / self.tokens_per_s if self.tokens_per_s else 0.0

    @property
    def usd_per_million(self) -> float:
        """US dollars for a million tokens under that load, 0: not known."""
        return self.hourly / self.tokens_per_s / 3600 * 1e6 if self.tokens_per_s else 0.0


def forecast(fleet: FleetLine, work: Workload, target: Target, fitted: Fitted) -> Forecast:
    """What the fleet would do.

    Raises:
        BadRequest: It cannot hold the model, too little is published of its devices, or a
            request has no sane number of tokens.
    """
    if not (0 < work.prompt <= TOKENS_MAX and 0 < work.answer <= TOKENS_MAX):
        raise BadRequest(
            f"a request has 1 to {TOKENS_MAX:,.0f} tokens of a prompt, and of an answer"
        )
    if fleet.device.kind in ("memory-pool", "fabric", "fabric-nic"):
        raise BadRequest(
            f"{fleet.device.name} computes nothing", hint="name the machines that it is to serve"
        )
    _check_memory(fleet, work)
    if fleet.device.kind == "lpu":
        return _lpu(fleet, work, target, fitted)
    if not fleet.device.bandwidth:
        raise BadRequest(
            f"the memory bandwidth of {fleet.device.name} is not published",
            hint="describe the device in a file of your own",
        )
    if fleet.is_ring or fleet.device.kind in ("soc", "cpu"):
        return _ring(fleet, work, target, fitted)
    if not fleet.device.best_flops(work.bits):
        raise BadRequest(
            f"what {fleet.device.name} computes in a second is not published",
            hint="describe the device in a file of your own",
        )
    return _server(fleet, work, target, fitted)


def _check_memory(fleet: FleetLine, work: Workload) -> None:
    bits = LPU_BITS if fleet.device.kind == "lpu" else work.bits
    needed = work.shape.total_params * bits / 8
    if fleet.memory * USABLE < needed:
        each = fleet.device.memory * USABLE
        how = (
            f"it takes {math.ceil(needed / each):,} of them" if each else "its memory is not known"
        )
        raise BadRequest(
            f"{fleet.name} cannot hold {work.shape.name}: {needed / 2**30:,.1f} GiB of weights",
            hint=how,
        )


def _lpu(fleet: FleetLine, work: Workload, target: Target, fitted: Fitted) -> Forecast:
    constants = fitted.constants
    seconds = lpu.token_s(work.shape, constants)
    first_s = lpu.first_token_s(constants)
    late = _is_late(target, first_s, seconds)
    notes = ["how many streams such a system serves at once is not published"]
    if late:
        notes.append(late)
    return _finished(
        *(fleet, work, target, _Pace(seconds, first_s, 0, seconds)),
        watts=fleet.n * fleet.device.power,
        error=fitted.errors["lpu"],
        notes=notes,
    )


def _server(fleet: FleetLine, work: Workload, target: Target, fitted: Fitted) -> Forecast:
    """Within a target as servers under load behave, without one at full load: each has been held
    against results of its own kind, and neither against those of the other.
    """
    constants = fitted.constants
    server = Server(work.shape, fleet.device, fleet.n, work.bits)

    def load(streams: float) -> Load:
        return Load(streams, work.prompt, work.answer)

    def times(streams: int) -> tuple[float, float]:
        return ttft_s(server, load(streams), constants), tpot_s(server, load(streams), constants)

    first_s, alone_s = times(1)
    watts = server_watts(fleet.device, fleet.n, constants) if fleet.device.power else 0.0
    if not (target.ttft_s or target.tpot_s):
        full = SaturatedRun(
            *(work.shape, fleet.device, fleet.n, work.bits, SERVER_KV_BITS),
            *(work.prompt, work.answer, TUNED),
        )
        n_streams = max(1, int(streams(full, constants)))
        loaded_s = n_streams / tokens_per_s(full, constants)
        return _finished(
            *(fleet, work, target, _Pace(alone_s, first_s, n_streams, max(alone_s, loaded_s))),
            watts=watts,
            error=fitted.errors["throughput"],
            notes=["at full load as tuned software does it: MLPerf's submissions"],
        )
    cached = work.shape.kv_values * 2 * work.shape.cached_positions(work.prompt + work.answer)
    free = fleet.memory * USABLE - work.shape.total_params * work.bits / 8
    room = max(1, min(STREAMS_MAX, int(free / cached)))
    most = _most(room, lambda n: not _is_late(target, *times(n)))
    notes = [_is_late(target, first_s, alone_s)] if not most else []
    if most > SEEN_STREAMS:
        notes.append(f"results are known of up to {SEEN_STREAMS} streams")
    return _finished(
        *(fleet, work, target, _Pace(alone_s, first_s, most, times(max(1, most))[1])),
        watts=watts,
        error=fitted.errors["serving_tpot"],
        notes=notes,
    )


def _ring(fleet: FleetLine, work: Workload, target: Target, fitted: Fitted) -> Forecast:
    """Rings of as few machines as hold the model. In each, flights of as many rows follow each
    other, so many that all machines compute while others' frames are on their way.
    """
    constants = fitted.constants
    weights = work.shape.total_params * work.bits / 8
    size = max(1, math.ceil(weights / (fleet.device.memory * USABLE)))
    rings = max(1, fleet.n // size)
    context = work.prompt + work.answer / 2
    run = DecodeRun(
        work.shape, fleet.device, work.bits, usual_runtime(fleet.device), context=context
    )
    ways = (fleet.way_s or 0.0,) * (size if size > 1 else 0)
    alone_s = pipeline_s(run, ways, RING, constants)
    asked_s = prompt_s(run, work.prompt, constants)
    first_s = alone_s + asked_s
    # Distance is the same however many rows a flight has.
    distance_s = alone_s - rows_s(run, 1, constants)

    def own_s(rows: int) -> float:
        """A flight's time on all machines, with its part of new prompts."""
        return rows_s(run, rows, constants) + rows * asked_s / work.answer

    cached = work.shape.kv_values * 2 * work.shape.cached_positions(work.prompt + work.answer)
    room = int(min(SLOTS_MAX, (size * fleet.device.memory * USABLE - weights) / cached))

    def flights(rows: int) -> int:
        return math.ceil((own_s(rows) + distance_s) * size / own_s(rows))

    def is_met(rows: int) -> bool:
        fits = rows * flights(rows) <= room
        return fits and not _is_late(target, first_s, own_s(rows) + distance_s)

    late = _is_late(target, first_s, alone_s)
    rows = 0 if late else max(1, _most(SLOTS_MAX, is_met))
    each = min(max(1, room), rows * flights(max(1, rows)))
    loaded_s = own_s(max(1, rows)) + distance_s
    notes = [
        "nothing is guessed: drafts make a ring faster where they are right",
        "that many streams' rows cost what a prompt's do is not held against results",
    ]
    if rings > 1:
        notes.append(f"{rings} rings of {size}" if size > 1 else f"{rings} machines, each alone")
    if late:
        notes.append(late)
    if not fleet.device.flops.get("fp16"):
        notes.append(f"what {fleet.device.name} computes in a second is not published: not counted")
    return _finished(
        *(fleet, work, target, _Pace(alone_s, first_s, rings * each * bool(rows), loaded_s)),
        watts=fleet.n * desk_watts(fleet.device, "", constants) if fleet.device.power else 0.0,
        error=fitted.errors["wide" if size > 1 else "local"],
        notes=notes,
    )


def _most(room: int, is_met: Callable[[int], bool]) -> int:
    """The largest number of streams that the target allows, 0: not even one."""
    if not is_met(1):
        return 0
    low, high = 1, room
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if is_met(middle) else (low, middle - 1)
    return low


def _is_late(target: Target, first_s: float, token_seconds: float) -> str:
    """Why the target is missed; empty: it is met."""
    if target.ttft_s and first_s > target.ttft_s:
        return f"the first token takes {first_s:.2f} s, longer than asked for"
    if target.tpot_s and token_seconds > target.tpot_s:
        return f"a token takes {1e3 * token_seconds:.1f} ms, longer than asked for"
    return ""


@dataclass(frozen=True, slots=True)
class _Pace:
    """A token and a first token of a stream alone, and a token of `streams` at once, seconds."""

    token_s: float
    first_s: float
    streams: int
    loaded_s: float


def _finished(
    fleet: FleetLine,
    work: Workload,
    target: Target,
    pace: _Pace,
    *,
    watts: float,
    error: Errors,
    notes: list[str],
) -> Forecast:
    rate = pace.streams / pace.loaded_s
    wanted = target.rate * work.answer
    hourly = fleet.n * hourly_usd(fleet.device, work.paid)
    if not watts:
        notes.append(f"the power of {fleet.device.name} is not published")
    if not hourly:
        notes.append(f"no price an hour of {fleet.device.name} is known")
    return Forecast(
        fleet=fleet,
        token_s=pace.token_s,
        first_s=pace.first_s,
        streams=pace.streams,
        loaded_s=pace.loaded_s,
        tokens_per_s=rate,
        watts=watts,
        hourly=hourly,
        fleets=math.ceil(wanted / rate) if rate else 0,
        error=error,
        notes=tuple(notes),
    )
